-- Who is mentioned in a comment is found by name, for their archive. Most mention nobody, and cost nothing. Each is
-- entered when it is made: a list of what is to be entered would be worked off by one unlucky comment.
CREATE INDEX comments_mentions ON comments USING gin (mentions) WITH (fastupdate = off) WHERE mentions <> '{}';
