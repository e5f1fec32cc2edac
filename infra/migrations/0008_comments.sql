-- Comments on posts, and replies to comments to any depth. Rows stay when deleted: replies hang on them.
CREATE TABLE comments (
    id bigint PRIMARY KEY,
    post_id bigint NOT NULL REFERENCES posts (id),
    -- Who may see the post decides who may see this: never changes, so that no read joins for it.
    post_author_id bigint NOT NULL REFERENCES users (id),
    -- The comment that this replies to; null directly under the post.
    parent_id bigint REFERENCES comments (id),
    author_id bigint NOT NULL REFERENCES users (id),
    text text NOT NULL,
    -- A photo or video as in posts.media.
    attachment jsonb,
    mentions text[] NOT NULL DEFAULT '{}',
    created_at bigint NOT NULL,
    edited_at bigint,
    deleted_at bigint,
    -- Deleted, with no reply left that is shown: it is in no list any more, and never will be again. A deleted one with
    -- such replies is shown as a tombstone.
    gone boolean NOT NULL DEFAULT false,
    reaction_count integer NOT NULL DEFAULT 0 CHECK (reaction_count >= 0),
    -- Direct replies that are not gone.
    reply_count integer NOT NULL DEFAULT 0 CHECK (reply_count >= 0),
    reactions jsonb NOT NULL DEFAULT '{}',
    version bigint NOT NULL DEFAULT 1,
    CHECK (gone = (deleted_at IS NOT NULL AND reply_count = 0))
) WITH (fillfactor = 80);
-- No predicate on a count: each reply and reaction would then write to every index.
CREATE INDEX comments_of_post ON comments (post_id, id) WHERE parent_id IS NULL AND NOT gone;
CREATE INDEX comments_of_parent ON comments (parent_id, id) WHERE NOT gone;
CREATE INDEX comments_author ON comments (author_id, id) WHERE deleted_at IS NULL;
-- What one user said on one post: for what they commented on, and for what its owner is told of.
CREATE INDEX comments_author_post ON comments (author_id, post_id, id);
