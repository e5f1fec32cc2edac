-- What one user said on one post, or in reply to one comment, as far as it stands: the newest of it is a look-up, however
-- much they said and deleted there. What they replace is dropped last: that keeps out readers too, until the end.
CREATE INDEX comments_standing_on_post ON comments (author_id, post_id, id) WHERE deleted_at IS NULL;
CREATE INDEX comments_standing_in_reply ON comments (author_id, parent_id, id)
    WHERE deleted_at IS NULL AND parent_id IS NOT NULL;
DROP INDEX comments_author_post;
