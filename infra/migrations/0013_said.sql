-- What one user said on one post, or in reply to one comment, as far as it stands: the newest of it is a look-up, however
-- much they said and deleted there.
DROP INDEX comments_author_post;
CREATE INDEX comments_author_post ON comments (author_id, post_id, id) WHERE deleted_at IS NULL;
CREATE INDEX comments_author_parent ON comments (author_id, parent_id, id)
    WHERE deleted_at IS NULL AND parent_id IS NOT NULL;
