-- A block looks for those about what one of the two said.
CREATE INDEX notifications_of_comment ON notifications (subject_id) WHERE starts_with(subject, 'comment:');
-- All that is said on somebody's posts, replies too: those who were told of it are told when the posts are hidden.
CREATE INDEX comments_below ON comments (post_author_id, post_id, id) WHERE NOT gone;
-- Of the unread the newest are counted.
CREATE INDEX notifications_newest_unread ON notifications (user_id, latest_id) WHERE latest_id IS NOT NULL AND unread;
DROP INDEX notifications_unread;
