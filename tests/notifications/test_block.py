"""A block looks at what it may hide, and not at all that the two are told of."""

import re

import msgspec
import pytest

from infra.local.stack import Stack
from shared.kernel import clock, db, ids
from shared.notifications import actions, store
from shared.notifications.model import Act
from shared.profiles import reads as profiles
from tests.client import Person
from tests.notifications.heard import wait_until_heard
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
def test_it_is_a_look_up_however_much_the_two_are_told(
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
    with db.unlimited() as conn:
        conn.command("BEGIN; SET LOCAL enable_seqscan = off")  # and never committed: nobody is told of it
        TELL.run(conn, user_id=values["user_id"], newest=ids.new_id(), many=MANY)
        conn.command("ANALYZE notifications")
        now = clock.now_ms()
        texts = {name: str(value) for name, value in values.items()} | {"now": str(now), "trace": "NULL"}
        sql = re.sub(r":(\w+)", lambda name: texts[name[1]], store.LOOK_BETWEEN.sql)
        explain = db.Statement(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {sql}", PlanRow)
        plan = "\n".join(row.line for row in explain.all(conn))
        looked_at = LOOKED_AT.one(conn).count
        conn.command("ROLLBACK")
    assert looked_at == count
    rows = re.findall(r"rows=([\d.]+)|Rows Removed by Filter: (\d+)", plan)
    assert all(float(some or removed) <= NEWEST for some, removed in rows), plan
