-- What one user did with one post or comment: ids are unique across kinds. The row stays when all is undone: its version
-- must go on growing. Each act has an id, which orders lists; a reaction that another takes the place of keeps it.
CREATE TABLE engagements (
    subject_id bigint NOT NULL,
    user_id bigint NOT NULL REFERENCES users (id),
    kind text NOT NULL CHECK (kind IN ('post', 'comment')),
    emoji text,
    reaction_id bigint,
    save_id bigint,
    repost_id bigint,
    version bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (subject_id, user_id),
    CHECK ((emoji IS NULL) = (reaction_id IS NULL)),
    CHECK (kind = 'post' OR (save_id IS NULL AND repost_id IS NULL))
);
CREATE INDEX engagements_reactions ON engagements (subject_id, reaction_id) WHERE reaction_id IS NOT NULL;
CREATE INDEX engagements_reactions_emoji ON engagements (subject_id, emoji, reaction_id) WHERE reaction_id IS NOT NULL;
CREATE INDEX engagements_reposts ON engagements (subject_id, repost_id) WHERE repost_id IS NOT NULL;
CREATE INDEX engagements_reacted ON engagements (user_id, reaction_id) WHERE reaction_id IS NOT NULL AND kind = 'post';
CREATE INDEX engagements_saved ON engagements (user_id, save_id) WHERE save_id IS NOT NULL;
CREATE INDEX engagements_reposted ON engagements (user_id, repost_id) WHERE repost_id IS NOT NULL;
-- A viewer's newest subjects, undone ones too: what the map in Redis is filled with.
CREATE INDEX engagements_user ON engagements (user_id, subject_id);

-- `counts` with `step` more of `word`; a word that nothing is left of goes.
CREATE FUNCTION tally(counts jsonb, word text, step integer) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN word IS NULL THEN counts
    WHEN coalesce(CAST(counts ->> word AS integer), 0) + step = 0 THEN counts - word
    ELSE jsonb_set(counts, ARRAY[word], to_jsonb(coalesce(CAST(counts ->> word AS integer), 0) + step))
END;

ALTER TABLE posts
    ADD COLUMN reaction_count integer NOT NULL DEFAULT 0 CHECK (reaction_count >= 0),
    ADD COLUMN comment_count integer NOT NULL DEFAULT 0 CHECK (comment_count >= 0),
    ADD COLUMN repost_count integer NOT NULL DEFAULT 0 CHECK (repost_count >= 0),
    ADD COLUMN save_count integer NOT NULL DEFAULT 0 CHECK (save_count >= 0),
    ADD COLUMN reactions jsonb NOT NULL DEFAULT '{}'
        CHECK (NOT jsonb_path_exists(reactions, '$.* ? (@ < 1)'));

-- Who is mentioned in a post. The row stays when the mention is taken out: its version must go on growing.
CREATE TABLE mentions (
    post_id bigint NOT NULL REFERENCES posts (id),
    user_id bigint NOT NULL REFERENCES users (id),
    -- Orders the list: the post's id, or for a mention that an edit brought its own. Null when taken out.
    mention_id bigint,
    version bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (post_id, user_id)
);
CREATE INDEX mentions_list ON mentions (user_id, mention_id) WHERE mention_id IS NOT NULL;
INSERT INTO mentions (post_id, user_id, mention_id, version)
SELECT p.id, u.id, CASE WHEN p.deleted_at IS NULL THEN p.id END, p.version
  FROM posts p CROSS JOIN LATERAL unnest(p.mentions) AS named (username) JOIN users u USING (username);
