-- Instants are milliseconds since the epoch, UTC. Ids are made by the application (shared/kernel/ids.py).
-- `version` counts the changes of a row: a projection takes a row only if it is newer than what it has.

CREATE TABLE users (
    id bigint PRIMARY KEY,
    username text NOT NULL,
    email text NOT NULL,
    name text NOT NULL,
    bio text NOT NULL DEFAULT '',
    birthday date,
    links jsonb NOT NULL DEFAULT '[]',
    picture jsonb,
    password_hash text NOT NULL,
    state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'suspended', 'deleted')),
    created_at bigint NOT NULL,
    post_count integer NOT NULL DEFAULT 0 CHECK (post_count >= 0),
    follower_count integer NOT NULL DEFAULT 0 CHECK (follower_count >= 0),
    following_count integer NOT NULL DEFAULT 0 CHECK (following_count >= 0),
    version bigint NOT NULL DEFAULT 1
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX users_username ON users (username);
CREATE UNIQUE INDEX users_email ON users (lower(email));

-- A signup or a password reset under way. Codes are derived from id and stage (shared/kernel/tokens.py), never stored.
CREATE TABLE signups (
    id bigint PRIMARY KEY,
    token_digest bytea NOT NULL UNIQUE,
    email text NOT NULL,
    -- False where the address has an account already: then no code of this signup is right.
    open boolean NOT NULL,
    key_id text NOT NULL,
    wrong_codes smallint NOT NULL DEFAULT 0,
    verified boolean NOT NULL DEFAULT false,
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL
);
CREATE INDEX signups_expires ON signups (expires_at);

CREATE TABLE sessions (
    id bigint PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES users (id),
    refresh_digest bytea NOT NULL,
    previous_digests bytea[] NOT NULL DEFAULT '{}',
    user_agent text NOT NULL,
    created_at bigint NOT NULL,
    last_used_at bigint NOT NULL,
    refresh_expires_at bigint NOT NULL,
    ended_at bigint
);
CREATE INDEX sessions_user ON sessions (user_id) WHERE ended_at IS NULL;

-- Failed logins of an account or an address, for throttling; keyed by what was typed, so that absent accounts throttle too.
CREATE TABLE login_failures (
    subject text PRIMARY KEY,
    failures integer NOT NULL,
    last_at bigint NOT NULL
);

CREATE TABLE idempotency_keys (
    scope text NOT NULL,
    key text NOT NULL,
    fingerprint bytea NOT NULL,
    answer bytea,
    -- Whose run it is: of two requests under one key only one finds its own.
    owner bigint NOT NULL,
    started_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    PRIMARY KEY (scope, key)
);
CREATE INDEX idempotency_keys_expires ON idempotency_keys (expires_at);

-- How `user_id` stands to `other_id`. The row stays when all is undone: its version must go on growing.
CREATE TABLE relationships (
    user_id bigint NOT NULL REFERENCES users (id),
    other_id bigint NOT NULL REFERENCES users (id),
    -- The id of the follow, which orders lists; null when not following.
    follow_id bigint,
    blocked_at bigint,
    muted_at bigint,
    version bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (user_id, other_id),
    CHECK (user_id <> other_id)
);
CREATE INDEX relationships_following ON relationships (user_id, follow_id) WHERE follow_id IS NOT NULL;
CREATE INDEX relationships_followers ON relationships (other_id, follow_id) WHERE follow_id IS NOT NULL;
CREATE INDEX relationships_blocked_by ON relationships (other_id) WHERE blocked_at IS NOT NULL;

CREATE TABLE posts (
    id bigint PRIMARY KEY,
    author_id bigint NOT NULL REFERENCES users (id),
    type text NOT NULL,
    media jsonb NOT NULL,
    description text NOT NULL,
    mentions text[] NOT NULL DEFAULT '{}',
    hashtags text[] NOT NULL DEFAULT '{}',
    edited_at bigint,
    deleted_at bigint,
    created_at bigint NOT NULL,
    version bigint NOT NULL DEFAULT 1
) WITH (fillfactor = 80);
CREATE INDEX posts_author ON posts (author_id, id) WHERE deleted_at IS NULL;

-- Upload authorisations. What stays unattached is swept after a day.
CREATE TABLE uploads (
    object text PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES users (id),
    purpose text NOT NULL,
    variant text NOT NULL,
    content_type text NOT NULL,
    size bigint NOT NULL,
    created_at bigint NOT NULL,
    -- What it is attached to, as "post:{id}"; null until then.
    attached_to text
);
CREATE INDEX uploads_orphans ON uploads (created_at) WHERE attached_to IS NULL;

-- A notification is a group: those of one type on one subject for one user.
CREATE TABLE notifications (
    id bigint PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES users (id),
    type text NOT NULL,
    subject text NOT NULL,
    -- Orders the list: the id of the latest act in the group; null when every act was undone.
    latest_id bigint,
    actor_count integer NOT NULL DEFAULT 0 CHECK (actor_count >= 0),
    unread boolean NOT NULL DEFAULT true,
    version bigint NOT NULL DEFAULT 1,
    UNIQUE (user_id, type, subject)
);
CREATE INDEX notifications_list ON notifications (user_id, latest_id) WHERE latest_id IS NOT NULL;
CREATE INDEX notifications_unread ON notifications (user_id) WHERE latest_id IS NOT NULL AND unread;

-- Who acted in a group, once each. `act_id` null: undone.
CREATE TABLE notification_actors (
    notification_id bigint NOT NULL REFERENCES notifications (id),
    actor_id bigint NOT NULL REFERENCES users (id),
    act_id bigint,
    -- The version of the act that was heard last: an older one changes nothing.
    act_version bigint NOT NULL,
    PRIMARY KEY (notification_id, actor_id)
);
CREATE INDEX notification_actors_latest ON notification_actors (notification_id, act_id) WHERE act_id IS NOT NULL;

-- Effects that must not happen twice and can't be made to converge: a live event was sent, a mail went out.
CREATE TABLE effects_done (
    effect text PRIMARY KEY,
    done_at bigint NOT NULL
);
CREATE INDEX effects_done_at ON effects_done (done_at);

CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    payload bytea NOT NULL,
    trace text,
    created_at bigint NOT NULL
);
