-- The newest act of a group that its owner has read: with what came after it gone, the group is read again.
ALTER TABLE notifications ADD COLUMN read_id bigint NOT NULL DEFAULT 0;
UPDATE notifications SET read_id = latest_id WHERE NOT unread AND latest_id IS NOT NULL;
