-- What is due by the clock: an event of `topic`, whose payload is `{"at": <when>}`, about every `every_ms`.
CREATE TABLE schedules (
    topic text PRIMARY KEY,
    every_ms bigint NOT NULL CHECK (every_ms > 0),
    next_at bigint NOT NULL
);
INSERT INTO schedules (topic, every_ms, next_at)
SELECT topic, 3600000, CAST(extract(epoch FROM now()) * 1000 AS bigint) + 3600000
  FROM (VALUES ('orphans_due'), ('upkeep_due')) AS s (topic);

-- By when it is over, so that sweeping finds what is.
CREATE INDEX login_failures_last ON login_failures (last_at);
CREATE INDEX sessions_over ON sessions (coalesce(ended_at, refresh_expires_at));
