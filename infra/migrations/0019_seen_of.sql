-- Whom of some usernames a viewer may see, and mention, in order: who is there, with no block between them. As a part of
-- a statement it would be made ready each time that is run, needed or not.
CREATE FUNCTION seen_of(names text[], viewer bigint) RETURNS text[] LANGUAGE sql STABLE PARALLEL SAFE
RETURN ARRAY(
    SELECT u.username FROM unnest(names) WITH ORDINALITY AS m (username, place) JOIN users u USING (username)
     WHERE u.state = 'active'
       AND (SELECT b.blocked_at FROM relationships b WHERE b.user_id = u.id AND b.other_id = viewer) IS NULL
       AND (SELECT b.blocked_at FROM relationships b WHERE b.user_id = viewer AND b.other_id = u.id) IS NULL
     ORDER BY m.place);
