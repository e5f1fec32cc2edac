-- An address is proven with a mailed code to reset a password as it is to sign up. The tokens and codes of one purpose are
-- unknown to the other.
ALTER TABLE signups ADD COLUMN purpose text NOT NULL DEFAULT 'signup' CHECK (purpose IN ('signup', 'password_reset'));
-- False where the address was sent too many of late: then nothing is mailed, and no code is right.
ALTER TABLE signups ADD COLUMN mailed boolean NOT NULL DEFAULT true;

-- All of a user's sessions: listed, ended together, erased.
CREATE INDEX sessions_of_user ON sessions (user_id, id);
DROP INDEX sessions_user;

-- An archive of all that is held on a user: asked for, made, and deleted when its link is over.
CREATE TABLE exports (
    id bigint PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES users (id),
    -- Its name in the private bucket, which nobody can guess.
    object text NOT NULL,
    requested_at bigint NOT NULL,
    -- Null until the archive is there.
    made_at bigint,
    expires_at bigint NOT NULL
);
CREATE INDEX exports_of_user ON exports (user_id, requested_at);
CREATE INDEX exports_expires ON exports (expires_at);
-- For the archive, and for erasing.
CREATE INDEX uploads_of_user ON uploads (user_id, object);

-- The receipt of an account's deletion: what was erased, where, and when it was done.
CREATE TABLE erasures (
    id bigint PRIMARY KEY,
    user_id bigint NOT NULL UNIQUE REFERENCES users (id),
    -- The former address, until the last mail has gone there.
    email text,
    -- How often the work has been handed on: each turn hands it on once.
    turn integer NOT NULL DEFAULT 0,
    counts jsonb NOT NULL DEFAULT '{}',
    begun_at bigint NOT NULL,
    -- When all that was there was erased. A day later it is looked through again, for what was under way then.
    ended_at bigint,
    under_way boolean NOT NULL DEFAULT true,
    looks smallint NOT NULL DEFAULT 1
);
CREATE INDEX erasures_to_look_again ON erasures (ended_at) WHERE looks = 1;

-- What erasing looks up: each an index range that shrinks as the work goes on.
CREATE INDEX posts_deleted_with_content ON posts (author_id) WHERE deleted_at IS NOT NULL AND media <> '[]';
CREATE INDEX relationships_muted_by ON relationships (other_id) WHERE muted_at IS NOT NULL;
CREATE INDEX relationships_over ON relationships (other_id)
    WHERE follow_id IS NULL AND blocked_at IS NULL AND muted_at IS NULL;
CREATE INDEX notification_actors_of ON notification_actors (actor_id, notification_id);
