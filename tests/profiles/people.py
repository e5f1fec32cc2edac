"""Users put straight into Postgres: more of them than a test has time to sign up."""

import secrets

import msgspec

from shared.graph import projection as graph
from shared.kernel import clock, db, ids
from shared.profiles import reads as profiles
from tests.client import Person

TOGETHER = 500


class NameRow(msgspec.Struct, frozen=True):
    username: str


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
