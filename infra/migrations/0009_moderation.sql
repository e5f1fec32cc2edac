-- An event is published when it is due; at once by default.
ALTER TABLE outbox ADD COLUMN due_at bigint NOT NULL DEFAULT 0;

-- When a notification was last told live, and when what it is by now is to be told; null when nothing is left to tell.
ALTER TABLE notifications ADD COLUMN told_at bigint NOT NULL DEFAULT 0, ADD COLUMN tell_at bigint;

-- The types of notifications that a user wants none of. No row: all are wanted.
CREATE TABLE notification_settings (
    user_id bigint PRIMARY KEY REFERENCES users (id),
    unwanted text[] NOT NULL
);

ALTER TABLE users ADD COLUMN is_moderator boolean NOT NULL DEFAULT false;

-- `owner_id` is whose the subject is: the author, or the user reported. `action` is null while it is open.
CREATE TABLE reports (
    id bigint PRIMARY KEY,
    reporter_id bigint NOT NULL REFERENCES users (id),
    subject_type text NOT NULL,
    subject_id bigint NOT NULL,
    owner_id bigint NOT NULL REFERENCES users (id),
    reason text NOT NULL,
    detail text,
    created_at bigint NOT NULL,
    action text CHECK (action IN ('remove', 'suspend', 'dismiss')),
    note text,
    resolved_by bigint REFERENCES users (id),
    resolved_at bigint,
    CHECK ((action IS NULL) = (resolved_by IS NULL) AND (action IS NULL) = (resolved_at IS NULL))
);
CREATE UNIQUE INDEX reports_same ON reports (reporter_id, subject_type, subject_id) WHERE action IS NULL;
CREATE INDEX reports_open ON reports (id) WHERE action IS NULL;
CREATE INDEX reports_resolved ON reports (id) WHERE action IS NOT NULL;

-- What moderators did. `moderator_id` is null for whoever runs the servers. It names no row of another table: it has to
-- outlast them.
CREATE TABLE moderation_log (
    id bigint PRIMARY KEY,
    moderator_id bigint,
    action text NOT NULL,
    subject_type text NOT NULL,
    subject_id bigint NOT NULL,
    report_id bigint,
    note text,
    created_at bigint NOT NULL
);
CREATE INDEX moderation_log_subject ON moderation_log (subject_id, id);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END
$$;
CREATE TRIGGER moderation_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON moderation_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
