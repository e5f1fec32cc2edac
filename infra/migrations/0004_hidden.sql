-- Few of a user's relationships hide someone, and few users are gone: lists that leave those out look them up here.
CREATE INDEX relationships_hiding ON relationships (user_id, other_id) WHERE blocked_at IS NOT NULL OR muted_at IS NOT NULL;
CREATE INDEX users_gone ON users (id) WHERE state <> 'active';
