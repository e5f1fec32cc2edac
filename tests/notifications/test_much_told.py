"""However much somebody is told, a block and a count look at little of it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from infra.local.stack import Stack
from shared.kernel import clock, db, ids
from shared.notifications import actions, store
from shared.notifications.model import Act
from shared.profiles import reads as profiles
from tests.client import Person
from tests.heard import wait_until_heard
from tests.profiles.people import insert_users

MANY = 20_000
NEWEST = 1_000


class PlanRow(msgspec.Struct, frozen=True):
    line: str


class CountRow(msgspec.Struct, frozen=True):
    count: int


# Newer than all that is between the two, and half of it about comments.
TELL = db.Statement(
    """INSERT INTO notifications (id, user_id, type, subject, latest_id, actor_count)
       SELECT n, :user_id, 'mention',
              CASE n % 2 WHEN 0 THEN 'post:' ELSE 'comment:' END || lpad(CAST(n AS text), 13, '0'),
              CAST(:newest AS bigint) + n, 1
         FROM generate_series(1, CAST(:many AS integer)) AS told (n)"""
)
LOOKED_AT = db.Statement("SELECT count(*) FROM outbox WHERE topic = 'notification_changed'", CountRow)


@pytest.mark.parametrize(("whose", "count"), [("alice", 2), ("bob", 1)])
def test_a_block_looks_up_what_is_between_the_two(
    stack: Stack, alice: Person, bob: Person, whose: str, count: int
) -> None:
    (third,) = insert_users(1)
    found = profiles.named([alice.username, bob.username])
    post = bob.post_photo()["id"]
    said = alice.post(f"/v1/posts/{post}/comments", {"text": "Yes"})["id"]
    bob.follow(alice.username)
    wait_until_heard(stack)
    actions.apply([Act(found[alice.username], "reaction", f"comment:{said}", third, ids.new_id(), 1)])
    wait_until_heard(stack)

    owner, other = (alice, bob) if whose == "alice" else (bob, alice)
    values = {"user_id": found[owner.username], "other_id": found[other.username]}
    with told_much(values["user_id"]) as conn:
        # Not at what the owner was told. All comments that other tests made may be: they are few, and Postgres would
        # rather read them all than look some up.
        assert most_looked_at(conn, store.LOOK_BETWEEN, values) < MANY / 2
        assert LOOKED_AT.one(conn).count == count


def test_of_the_unread_the_newest_are_looked_at(stack: Stack, alice: Person) -> None:
    values = {"user_id": profiles.named([alice.username])[alice.username]}
    with told_much(values["user_id"]) as conn:
        assert most_looked_at(conn, store.UNREAD, values) == NEWEST
        assert store.UNREAD.one(conn, **values).count == 0  # all of it is about what is not there


@contextmanager
def told_much(user_id: int) -> Iterator[db.Connection]:
    """A transaction in which that one has been told of much. It is never committed: nobody else is told of it."""
    with db.unlimited() as conn:
        conn.command("BEGIN; SET LOCAL enable_seqscan = off")
        try:
            TELL.run(conn, user_id=user_id, newest=ids.new_id(), many=MANY)
            conn.command("ANALYZE notifications")
            yield conn
        finally:
            conn.command("ROLLBACK")


def most_looked_at(conn: db.Connection, statement: db.Statement[Any], values: dict[str, int]) -> float:
    """The most rows that any step of the statement, which is run, gave or left out each time."""
    texts = {name: str(value) for name, value in values.items()} | {"now": str(clock.now_ms()), "trace": "NULL"}
    sql = re.sub(r":(\w+)", lambda name: texts[name[1]], statement.sql)
    explain = db.Statement(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {sql}", PlanRow)
    plan = "\n".join(row.line for row in explain.all(conn))
    return max(float(rows or out) for rows, out in re.findall(r"rows=([\d.]+)|Rows Removed by Filter: (\d+)", plan))
