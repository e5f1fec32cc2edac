"""Users put straight into Postgres: more of them than a test has time to sign up. And taken away there."""

import secrets

import msgspec

from shared.graph import projection as graph
from shared.kernel import cache, clock, db, events, ids, sessions
from shared.profiles import reads as profiles
from shared.profiles.model import UserChanged
from tests.client import Person

TOGETHER = 500


class NameRow(msgspec.Struct, frozen=True):
    username: str


class SessionRow(msgspec.Struct, frozen=True):
    id: int


INSERT_USERS = db.Statement(
    """INSERT INTO users (id, username, email, name, password_hash, created_at)
       SELECT id, name, name || '@example.com', name, '', :now
         FROM unnest(CAST(:ids AS bigint[]), CAST(:names AS text[])) AS u (id, name)"""
)
LEAVE = db.Statement("UPDATE users SET state = :state, version = version + 1 WHERE id = ANY(CAST(:ids AS bigint[]))")
SESSIONS = db.Statement("SELECT id FROM sessions WHERE user_id = ANY(CAST(:ids AS bigint[]))", SessionRow)


# The n-th is made in the n-th millisecond of their day, so that their ids and follows are in one order.
INSERT = db.Statement(
    """WITH made AS (
         INSERT INTO users (id, username, email, name, password_hash, created_at, following_count)
         SELECT id, 'f' || id, 'f' || id || '@example.com', 'Follower', '', :now, 1
           FROM unnest(CAST(:ids AS bigint[])) AS n (id) RETURNING id, username
       ), follows AS (
         INSERT INTO relationships (user_id, other_id, follow_id) SELECT id, :owner, id FROM made
       ), counted AS (
         UPDATE users SET follower_count = follower_count + cardinality(CAST(:ids AS bigint[])), version = version + 1
          WHERE id = :owner
       )
       SELECT username FROM made ORDER BY id DESC""",
    NameRow,
)


def insert_followers(owner: Person, count: int, *, days_ago: int = 1) -> list[str]:
    """Their usernames, the newest first."""
    # From some moment of an hour on: others who do so at nearly the same time get other ids.
    first = clock.now_ms() - ids.EPOCH_MS - days_ago * 86_400_000 - secrets.randbelow(3_600_000)
    made = [((first + n) << ids.RANDOM_BITS) | (ids.new_id() & 0xFFFF) for n in range(count)]
    owner_id = profiles.named([owner.username])[owner.username]
    with db.connection() as conn:
        rows = INSERT.all(conn, owner=owner_id, ids=made, now=clock.now_ms())
    # As their events would have it.
    profiles.refresh([owner_id])
    for start in range(0, count, TOGETHER):
        some = made[start : start + TOGETHER]
        graph.project(users=[owner_id, *some], pairs=[(one, owner_id) for one in some])
    return [row.username for row in rows]


def insert_users(count: int) -> list[int]:
    """The ids of users whom nobody needs to be."""
    # One after the other: of so many within a millisecond two might be drawn alike.
    first = ids.new_id()
    made = [first + n for n in range(count)]
    with db.transaction() as conn:
        INSERT_USERS.run(conn, ids=made, names=[f"u{secrets.token_hex(8)}" for _ in made], now=clock.now_ms())
        events.emit(conn, *map(UserChanged, made))
    return made


def leave(*user_ids: int, state: str = "deleted", signed_out: bool = True) -> None:
    """They are gone, or suspended, but what they made is still there: the moment before it is erased."""
    with db.connection() as conn:
        LEAVE.run(conn, ids=[*user_ids], state=state)
        theirs = SESSIONS.all(conn, ids=[*user_ids])
    # As their events would have it.
    if signed_out:
        cache.run_sync(*[sessions.ended(row.id) for row in theirs])
    profiles.refresh(user_ids)
    graph.project(users=user_ids)
