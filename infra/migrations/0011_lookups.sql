-- What is attached to a post, comment or picture is let go of with it; a report is found by who made it.
CREATE INDEX uploads_attached ON uploads (attached_to) WHERE attached_to IS NOT NULL;
CREATE INDEX reports_reporter ON reports (reporter_id, id);
