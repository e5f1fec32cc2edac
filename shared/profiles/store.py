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
    shows_presence: bool
    version: int


class PictureRow(msgspec.Struct, frozen=True):
    """The objects of a picture, by size."""

    picture: dict[str, str] | None


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


class RelationshipRow(msgspec.Struct, frozen=True):
    """How `user_id` stands to `other_id`. The ids order lists, each null where there is nothing to list.

    `erased`: `user_id` has deleted their account, and nothing of theirs is kept.
    """

    user_id: int
    other_id: int
    follow_id: int | None
    block_id: int | None
    mute_id: int | None
    blocking: bool
    muting: bool
    version: int
    erased: bool = False


class FollowRow(msgspec.Struct, frozen=True):
    """A relationship after a change of it, and both users. `changed`: whether there was anything to change."""

    followee_id: int
    visible: bool
    changed: bool
    following: bool
    followed_by: bool
    muting: bool
    follow_id: int | None
    mute_id: int | None
    version: int
    users: list[UserRow]


class StandRow(msgspec.Struct, frozen=True):
    """A user after a change of how one stands to them; the rows of both, those that there are, and both users.

    `visible`: whether one may see them, but for a block of one's own that the change is about.
    """

    other_id: int
    visible: bool
    changed: bool
    relationships: list[RelationshipRow]
    users: list[UserRow]


class EntryRow(msgspec.Struct, frozen=True):
    """A user in a list, and the id that orders it."""

    position: int
    user_id: int


_COLUMNS = ", ".join(field.name for field in msgspec.structs.fields(UserRow))
_QUALIFIED = ", ".join(f"users.{column}" for column in _COLUMNS.split(", "))

# A parameter that is null leaves its column as it is; of a birthday, which may be null, `sets_birthday` says whether.
EDIT = db.Statement(
    f"""UPDATE users SET name = coalesce(CAST(:name AS text), name), bio = coalesce(CAST(:bio AS text), bio),
               birthday = CASE WHEN CAST(:sets_birthday AS boolean) THEN CAST(:birthday AS date) ELSE birthday END,
               links = coalesce(CAST(:links AS jsonb), links),
               shows_presence = coalesce(CAST(:shows_presence AS boolean), shows_presence), version = version + 1
         WHERE id = :user_id AND state = 'active' RETURNING {_COLUMNS}""",
    UserRow,
)
PICTURE = db.Statement("SELECT picture FROM users WHERE id = :user_id AND state = 'active'", PictureRow)
# No row if there was just this picture: then nothing has changed.
SET_PICTURE = db.Statement(
    f"""UPDATE users SET picture = CAST(:picture AS jsonb), version = version + 1
         WHERE id = :user_id AND state = 'active' AND picture IS DISTINCT FROM CAST(:picture AS jsonb)
        RETURNING {_COLUMNS}""",
    UserRow,
)
USERS = db.Statement(f"SELECT {_COLUMNS} FROM users WHERE id = ANY(CAST(:ids AS bigint[]))", UserRow)
BY_USERNAME = db.Statement("SELECT id FROM users WHERE username = :username AND state = 'active'", IdRow)
BY_USERNAMES = db.Statement(
    "SELECT id, username FROM users WHERE username = ANY(CAST(:usernames AS text[])) AND state = 'active'",
    NameRow,
)
LASTING = db.Statement(
    "SELECT id, username FROM users WHERE username = ANY(CAST(:usernames AS text[])) AND state <> 'deleted'",
    NameRow,
)
EVER_NAMED = db.Statement(
    "SELECT id, username FROM users WHERE username = ANY(CAST(:usernames AS text[]))",
    NameRow,
)
FOLLOWS_AMONG = db.Statement(
    """SELECT r.user_id, r.other_id,
              r.follow_id IS NOT NULL AND NOT EXISTS (SELECT FROM users u
                                                       WHERE u.id IN (p.a, p.b) AND u.state = 'deleted'), r.version
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
RELATIONSHIP = db.Statement(
    """SELECT user_id, other_id, follow_id, block_id, mute_id, blocked_at IS NOT NULL, muted_at IS NOT NULL, version,
              EXISTS (SELECT FROM users WHERE id = :user_id AND state = 'deleted')
         FROM relationships WHERE user_id = :user_id AND other_id = :other_id""",
    RelationshipRow,
)
# The lists of users, newest first: each page an index range, the last as fast as the first.
FOLLOWERS = db.Statement(
    """SELECT follow_id, user_id FROM relationships WHERE other_id = :owner AND follow_id < :before
        ORDER BY follow_id DESC LIMIT :limit""",
    EntryRow,
)
FOLLOWING = db.Statement(
    """SELECT follow_id, other_id FROM relationships WHERE user_id = :owner AND follow_id < :before
        ORDER BY follow_id DESC LIMIT :limit""",
    EntryRow,
)
BLOCKED = db.Statement(
    """SELECT block_id, other_id FROM relationships WHERE user_id = :owner AND block_id < :before
        ORDER BY block_id DESC LIMIT :limit""",
    EntryRow,
)
MUTED = db.Statement(
    """SELECT mute_id, other_id FROM relationships WHERE user_id = :owner AND mute_id < :before
        ORDER BY mute_id DESC LIMIT :limit""",
    EntryRow,
)

# One statement, one round trip: the row, both counts, the events, and all that the answer shows. Both users are locked
# in the order of their ids, so that two who follow each other at once don't deadlock; by advisory locks, since a row
# locked first and updated then can deadlock with those that wait for it. Nobody follows across a block, or who is gone;
# but a follow of one who is suspended can be taken back. How the two stand to each other is asked when the locks are
# held, since whoever changes that holds them too. What else it reads besides the rows that it changes may be from
# before it waited for the locks: who finds nothing to change asks again.
_CHANGE_FOLLOW = """
WITH target AS MATERIALIZED (
  SELECT id, state = 'active' AS active FROM users WHERE username = :username AND id <> :user_id AND {state}
), locked AS MATERIALIZED (
  SELECT pg_advisory_xact_lock(id) IS NOT NULL AS held
    FROM (SELECT id FROM (SELECT CAST(:user_id AS bigint) AS id UNION ALL SELECT id FROM target) pair
           ORDER BY id OFFSET 0) ordered
), gate AS MATERIALIZED (
  SELECT CASE WHEN count(held) = 2 THEN (SELECT id FROM target) END AS id FROM locked
), stand AS MATERIALIZED (
  SELECT count(r.blocked_at) = 0 AS open, count(r.follow_id) FILTER (WHERE r.other_id = :user_id) > 0 AS followed_by,
         max(r.follow_id) FILTER (WHERE r.user_id = :user_id) AS follow_id,
         max(r.mute_id) FILTER (WHERE r.user_id = :user_id) AS mute_id,
         count(r.muted_at) FILTER (WHERE r.user_id = :user_id) > 0 AS muting,
         max(r.version) FILTER (WHERE r.user_id = :user_id) AS version
    FROM gate CROSS JOIN LATERAL relationships_between(:user_id, gate.id) r
), change AS (
  {change}
  RETURNING r.other_id, r.follow_id, r.mute_id, r.version
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
  SELECT {columns} FROM users
   WHERE id IN (:user_id, (SELECT id FROM target)) AND NOT EXISTS (SELECT FROM change)
  UNION ALL SELECT {columns} FROM counts
)
SELECT target.id, target.active AND stand.open, change.other_id IS NOT NULL, {following}, stand.followed_by,
       stand.muting, CASE WHEN change.other_id IS NULL THEN stand.follow_id ELSE change.follow_id END,
       coalesce(change.mute_id, stand.mute_id), coalesce(change.version, stand.version, 0),
       (SELECT json_agg(seen) FROM seen)
  FROM target CROSS JOIN stand LEFT JOIN change ON true
"""
FOLLOW = db.Statement(
    _CHANGE_FOLLOW.format(
        columns=_COLUMNS,
        qualified=_QUALIFIED,
        state="state = 'active'",
        step="1",
        following="true",
        change="""INSERT INTO relationships AS r (user_id, other_id, follow_id)
  SELECT :user_id, gate.id, :follow_id FROM gate, stand WHERE gate.id IS NOT NULL AND stand.open
  ON CONFLICT (user_id, other_id) DO UPDATE SET follow_id = excluded.follow_id, version = r.version + 1
    WHERE r.follow_id IS NULL""",
    ),
    FollowRow,
)
UNFOLLOW = db.Statement(
    _CHANGE_FOLLOW.format(
        columns=_COLUMNS,
        qualified=_QUALIFIED,
        state="state <> 'deleted'",
        step="-1",
        following="false",
        change="""UPDATE relationships r SET follow_id = NULL, version = r.version + 1 FROM gate, stand
   WHERE r.user_id = :user_id AND r.other_id = gate.id AND r.follow_id IS NOT NULL AND stand.open""",
    ),
    FollowRow,
)

# The same for blocks and mutes. Who is hidden is not muted, but a mute or a block of them can be taken back, and who
# blocks can be blocked: none of it is answered (docs/decisions/blocks.md). All that it judges by is read when the locks
# are held. Rows are written as if they might not be there: an INSERT finds those made meanwhile too, an UPDATE does
# not. A block ends both follows, with their counts and events. Postgres tries the CHECK on counts as the statement
# first saw them as well, from before a follow that it waited for, hence `greatest`; what is stored is worked out from
# the counts as they are.
_STAND = """
WITH target AS MATERIALIZED (
  SELECT id FROM users WHERE username = :username AND {state} AND id <> :user_id
), locked AS MATERIALIZED (
  SELECT pg_advisory_xact_lock(id) IS NOT NULL AS held
    FROM (SELECT id FROM (SELECT CAST(:user_id AS bigint) AS id UNION ALL SELECT id FROM target) pair
           ORDER BY id OFFSET 0) ordered
), gate AS MATERIALIZED (
  SELECT CASE WHEN count(held) = 2 THEN (SELECT id FROM target) END AS id FROM locked
), pair AS MATERIALIZED (
  SELECT r.* FROM gate CROSS JOIN LATERAL relationships_between(:user_id, gate.id) r
), reached AS MATERIALIZED (
  SELECT id, NOT EXISTS (SELECT FROM pair WHERE blocked_at IS NOT NULL AND {hides}) AS visible
    FROM gate WHERE id IS NOT NULL
), mine AS (
  INSERT INTO relationships AS r (user_id, other_id, {at}, {id})
  SELECT CAST(:user_id AS bigint), id, CAST(:at AS bigint), CAST(:act_id AS bigint) FROM reached WHERE {when}
  ON CONFLICT (user_id, other_id) DO UPDATE
    SET {at} = excluded.{at}, {id} = excluded.{id}, {more} version = r.version + 1
    WHERE (r.{at} IS NULL) <> (excluded.{at} IS NULL)
  RETURNING r.*
), theirs AS (
  INSERT INTO relationships AS r (user_id, other_id)
  SELECT pair.user_id, pair.other_id FROM mine JOIN pair ON pair.user_id = mine.other_id
   WHERE pair.follow_id IS NOT NULL AND {ends_follows}
  ON CONFLICT (user_id, other_id) DO UPDATE SET follow_id = NULL, version = r.version + 1
  RETURNING r.*
), changed AS (
  SELECT * FROM mine UNION ALL SELECT * FROM theirs
), ended AS (
  SELECT user_id, other_id, changed.version FROM changed JOIN pair USING (user_id, other_id)
   WHERE pair.follow_id IS NOT NULL AND changed.follow_id IS NULL
), counts AS (
  UPDATE users SET version = users.version + 1,
         following_count = greatest(0, following_count - less.following),
         follower_count = greatest(0, follower_count - less.followers)
    FROM (SELECT u.id, count(*) FILTER (WHERE ended.user_id = u.id) AS following,
                 count(*) FILTER (WHERE ended.other_id = u.id) AS followers
            FROM ended CROSS JOIN LATERAL (VALUES (ended.user_id), (ended.other_id)) u (id) GROUP BY u.id) less
   WHERE users.id = less.id
  RETURNING {qualified}
), told AS (
  INSERT INTO outbox (topic, payload, trace, created_at)
  SELECT topic, convert_to(CAST(payload AS text), 'UTF8'), :trace, :now
    FROM (SELECT '{topic}' AS topic,
                 json_build_object('user_id', user_id, 'other_id', other_id, 'version', version) AS payload FROM mine
          UNION ALL
          SELECT 'follow_changed', json_build_object('follower_id', user_id, 'followee_id', other_id,
                                                     'follow_id', NULL, 'version', version) FROM ended) happened
), seen AS (
  SELECT {columns} FROM users
   WHERE id IN (SELECT :user_id UNION ALL SELECT id FROM target) AND id NOT IN (SELECT id FROM counts)
  UNION ALL SELECT {columns} FROM counts
), stand AS (
  SELECT user_id, other_id, follow_id, block_id, mute_id, blocked_at IS NOT NULL AS blocking,
         muted_at IS NOT NULL AS muting, version
    FROM (SELECT * FROM changed
          UNION ALL SELECT * FROM pair WHERE user_id NOT IN (SELECT user_id FROM changed)) latest
)
SELECT reached.id, reached.visible, EXISTS (SELECT FROM mine), (SELECT coalesce(json_agg(stand), '[]') FROM stand),
       (SELECT json_agg(seen) FROM seen)
  FROM reached
"""
# Who has blocked the other sees them once that is taken back, unless they were blocked too.
_BY_OTHER = "other_id = :user_id"
_BLOCK = {"at": "blocked_at", "id": "block_id", "topic": "block_changed", "hides": _BY_OTHER}
_MUTE = {"at": "muted_at", "id": "mute_id", "topic": "mute_changed", "hides": "true"}
_BEGINS = {"state": "state = 'active'"}
_ENDS = {"state": "state <> 'deleted'", "when": "EXISTS (SELECT FROM pair WHERE pair.user_id = :user_id)"}
_ENDS_NO_FOLLOWS = {"more": "", "ends_follows": "false"}


def _stand(**parts: str) -> db.Statement[StandRow]:
    return db.Statement(_STAND.format(columns=_COLUMNS, qualified=_QUALIFIED, **parts), StandRow)


BLOCK = _stand(**_BLOCK, **_BEGINS, when="true", more="follow_id = NULL,", ends_follows="true")
UNBLOCK = _stand(**_BLOCK, **_ENDS, **_ENDS_NO_FOLLOWS)
MUTE = _stand(**_MUTE, **_BEGINS, **_ENDS_NO_FOLLOWS, when="visible")
UNMUTE = _stand(**_MUTE, **_ENDS, **_ENDS_NO_FOLLOWS)
