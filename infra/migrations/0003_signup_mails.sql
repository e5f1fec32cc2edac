-- How many mails an address was sent of late: asked before each.
CREATE INDEX signups_email ON signups (email, created_at);
