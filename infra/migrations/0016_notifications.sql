-- The newest act of a group that its owner has read: with what came after it gone, the group is read again.
ALTER TABLE notifications ADD COLUMN read_id bigint NOT NULL DEFAULT 0;
UPDATE notifications SET read_id = latest_id WHERE NOT unread AND latest_id IS NOT NULL;

-- The number behind an id's 13 characters (shared/kernel/ids.py).
CREATE FUNCTION id_of(characters text) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT bit_or(
        CAST(strpos('0123456789abcdefghjkmnpqrstvwxyz', substr(characters, place, 1)) - 1 AS bigint) << 5 * (13 - place)
    )
      FROM generate_series(1, 13) AS place
);
-- What a group is about is looked up by its id; null where that is its owner.
ALTER TABLE notifications ADD COLUMN subject_id bigint
    GENERATED ALWAYS AS (CASE WHEN NOT starts_with(subject, 'user:') THEN id_of(right(subject, 13)) END) STORED;
