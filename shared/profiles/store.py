"""The SQL of profiles."""

from typing import Any

import msgspec

from shared.kernel import db


class UserRow(msgspec.Struct, frozen=True):
    """What others see of a user, and the version of it."""

    id: int
    username: str
    name: str
    bio: str
    links: list[str]
    picture: dict[str, Any] | None
    state: str
    post_count: int
    follower_count: int
    following_count: int
    version: int


class IdRow(msgspec.Struct, frozen=True):
    """The id of a user."""

    id: int


class NameRow(msgspec.Struct, frozen=True):
    """A user's id and username."""

    id: int
    username: str


class FollowerRow(msgspec.Struct, frozen=True):
    """A follower, and the id of the follow."""

    user_id: int
    follow_id: int


class FollowStateRow(msgspec.Struct, frozen=True):
    """A follow, or one that was undone."""

    follower_id: int
    followee_id: int
    following: bool
    version: int


class FollowRow(msgspec.Struct, frozen=True):
    """A relationship after a change of it, and both users. `changed`: whether there was anything to change."""

    followee_id: int
    visible: bool
    changed: bool
    following: bool
    followed_by: bool
    muting: bool
    version: int
    users: list[UserRow]


_COLUMNS = "id, username, name, bio, links, picture, state, post_count, follower_count, following_count, version"
_QUALIFIED = ", ".join(f"users.{column}" for column in _COLUMNS.split(", "))

USERS = db.Statement(f"SELECT {_COLUMNS} FROM users WHERE id = ANY(CAST(:ids AS bigint[]))", UserRow)
BY_USERNAME = db.Statement("SELECT id FROM users WHERE username = :username AND state = 'active'", IdRow)
BY_USERNAMES = db.Statement(
    "SELECT id, username FROM users WHERE username = ANY(CAST(:usernames AS text[])) AND state = 'active'",
    NameRow,
)
FOLLOWS_AMONG = db.Statement(
    """SELECT r.user_id, r.other_id,
              r.follow_id IS NOT NULL AND NOT EXISTS (SELECT FROM users u
                                                       WHERE u.id IN (p.a, p.b) AND u.state <> 'active'), r.version
         FROM unnest(CAST(:followers AS bigint[]), CAST(:followees AS bigint[])) AS p (a, b)
         JOIN relationships r ON r.user_id = p.a AND r.other_id = p.b ORDER BY 1, 2""",
    FollowStateRow,
)
# For going through all users, and through all that some of them follow.
IDS_AFTER = db.Statement("SELECT id FROM users WHERE id > :after ORDER BY id LIMIT :limit", IdRow)
FOLLOWS_OF = db.Statement(
    """SELECT user_id, other_id, true, version FROM relationships
        WHERE user_id = ANY(CAST(:ids AS bigint[])) AND follow_id IS NOT NULL""",
    FollowStateRow,
)
# One page of followers, oldest follow first: fan-out goes through them in chunks, each an index range.
FOLLOWERS_AFTER = db.Statement(
    """SELECT user_id, follow_id FROM relationships
        WHERE other_id = :user_id AND follow_id > :after ORDER BY follow_id LIMIT :limit""",
    FollowerRow,
)

# One statement, one round trip: the row, both counts, the events, and all that the answer shows. Both users are locked
# in the order of their ids, so that two who follow each other at once don't deadlock; by advisory locks, since a row
# locked first and updated then can deadlock with those that wait for it. Across a block, or with one who is gone,
# nothing is changed. What it reads besides the rows that it changes may be from before it waited for the locks: who
# finds nothing to change asks again.
_CHANGE_FOLLOW = """
WITH target AS MATERIALIZED (
  SELECT u.id, u.state = 'active' AND NOT EXISTS (
           SELECT FROM relationships b WHERE b.blocked_at IS NOT NULL
              AND ((b.user_id = u.id AND b.other_id = :user_id) OR (b.user_id = :user_id AND b.other_id = u.id))
         ) AS visible
    FROM users u WHERE u.username = :username AND u.id <> :user_id
), locked AS MATERIALIZED (
  SELECT pg_advisory_xact_lock(id) IS NOT NULL AS held
    FROM (SELECT id FROM (SELECT CAST(:user_id AS bigint) AS id UNION ALL SELECT id FROM target WHERE visible) pair
           ORDER BY id OFFSET 0) ordered
), gate AS MATERIALIZED (
  SELECT count(held) = 2 AS open FROM locked
), change AS (
  {change}
  RETURNING r.other_id, r.follow_id, r.blocked_at, r.muted_at, r.version
), counts AS (
  UPDATE users SET version = users.version + 1,
         following_count = following_count + CASE WHEN users.id = :user_id THEN {step} ELSE 0 END,
         follower_count = follower_count + CASE WHEN users.id = :user_id THEN 0 ELSE {step} END
    FROM change WHERE users.id IN (:user_id, change.other_id)
  RETURNING {qualified}
), told AS (
  INSERT INTO outbox (topic, payload, trace, created_at)
  SELECT 'follow_changed',
         convert_to(CAST(json_build_object('follower_id', CAST(:user_id AS bigint), 'followee_id', change.other_id,
                                           'follow_id', change.follow_id, 'version', change.version) AS text), 'UTF8'),
         :trace, :now
    FROM change
), seen AS (
  SELECT {columns} FROM users WHERE NOT EXISTS (SELECT FROM change)
     AND id IN (SELECT :user_id UNION ALL SELECT id FROM target)
  UNION ALL SELECT {columns} FROM counts
)
SELECT target.id, target.visible, change.other_id IS NOT NULL, {following},
       EXISTS (SELECT FROM relationships f
                WHERE f.user_id = target.id AND f.other_id = :user_id AND f.follow_id IS NOT NULL),
       r.muted_at IS NOT NULL, coalesce(change.version, r.version, 0),
       (SELECT json_agg(seen) FROM seen)
  FROM target LEFT JOIN change ON true LEFT JOIN relationships r ON r.user_id = :user_id AND r.other_id = target.id
"""
FOLLOW = db.Statement(
    _CHANGE_FOLLOW.format(
        columns=_COLUMNS,
        qualified=_QUALIFIED,
        step="1",
        following="true",
        change="""INSERT INTO relationships AS r (user_id, other_id, follow_id)
  SELECT :user_id, target.id, :follow_id FROM target, gate WHERE gate.open
  ON CONFLICT (user_id, other_id) DO UPDATE SET follow_id = excluded.follow_id, version = r.version + 1
    WHERE r.follow_id IS NULL""",
    ),
    FollowRow,
)
UNFOLLOW = db.Statement(
    _CHANGE_FOLLOW.format(
        columns=_COLUMNS,
        qualified=_QUALIFIED,
        step="-1",
        following="false",
        change="""UPDATE relationships r SET follow_id = NULL, version = r.version + 1 FROM target, gate
   WHERE r.user_id = :user_id AND r.other_id = target.id AND r.follow_id IS NOT NULL AND gate.open""",
    ),
    FollowRow,
)
