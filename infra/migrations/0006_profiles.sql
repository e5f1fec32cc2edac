-- The ids of a block and of a mute, which order their lists as `follow_id` does; null when there is none.
ALTER TABLE relationships ADD COLUMN block_id bigint, ADD COLUMN mute_id bigint;
CREATE INDEX relationships_blocked ON relationships (user_id, block_id) WHERE block_id IS NOT NULL;
CREATE INDEX relationships_muted ON relationships (user_id, mute_id) WHERE mute_id IS NOT NULL;

-- Both rows of two users as they are when it is called: what a statement reads itself is from before it waited for its
-- locks. Volatile, so that it sees what was committed meanwhile.
CREATE FUNCTION relationships_between(one bigint, two bigint) RETURNS SETOF relationships
LANGUAGE plpgsql VOLATILE STRICT ROWS 2 AS $$
BEGIN
    RETURN QUERY SELECT * FROM relationships
                  WHERE (user_id = one AND other_id = two) OR (user_id = two AND other_id = one);
END
$$;
