"""What is told of a comment costs as much whether its author said one thing there or hundreds."""

import re

import msgspec
import pytest

from shared.comments import store
from shared.kernel import clock, db, ids
from tests.client import Person, wait_until
from tests.comments.thread import comment, delete, id_of, reply

MANY = 600


class PlanRow(msgspec.Struct, frozen=True):
    line: str


# Of many that one said, on the post and below a comment, the oldest tenth stands.
SAY = db.Statement(
    """INSERT INTO comments (id, post_id, post_author_id, parent_id, author_id, text, created_at, deleted_at, gone)
       SELECT CAST(:parent AS bigint) + n, :post_id, :owner, CASE WHEN n % 2 = 0 THEN CAST(:parent AS bigint) END,
              :author, 'Old', :now, CASE WHEN n > :many / 10 THEN CAST(:now AS bigint) END, n > :many / 10
         FROM generate_series(1, CAST(:many AS integer)) AS said (n)"""
)
# And what others say: as on a real database, one's own is little of all, whatever else there is on this one.
OTHERS_SAY = db.Statement(
    """INSERT INTO comments (id, post_id, post_author_id, author_id, text, created_at)
       SELECT CAST(:parent AS bigint) + :many + n, :post_id, :owner, :owner, 'Newer', :now
         FROM generate_series(1, 20 * CAST(:many AS integer)) AS said (n)"""
)
SAID = {"on_post": store.SAID_ON_POST, "in_reply": store.SAID_IN_REPLY}


@pytest.mark.parametrize("which", SAID)
def test_it_is_a_look_up_however_much_was_said_and_deleted(alice: Person, bob: Person, which: str) -> None:
    post = alice.post_photo("Talkative")
    top = comment(bob, post)
    values = {"author_id": id_of(bob), "post_id": ids.decode(post["id"]), "parent_id": ids.decode(top["id"])}
    with db.unlimited() as conn:
        conn.command("BEGIN; SET LOCAL enable_seqscan = off")  # and never committed: it is nobody's count
        where = {"post_id": values["post_id"], "parent": values["parent_id"], "owner": id_of(alice)}
        for say, who in ((SAY, {"author": values["author_id"]}), (OTHERS_SAY, {})):
            say.run(conn, **where, **who, now=clock.now_ms(), many=MANY)
        conn.command("ANALYZE comments")
        sql = re.sub(r":(\w+)", lambda name: str(values[name[1]]), SAID[which].sql)
        explain = db.Statement(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {sql}", PlanRow)
        plan = "\n".join(row.line for row in explain.all(conn))
        found = SAID[which].one(
            conn, **{name: value for name, value in values.items() if f":{name}" in SAID[which].sql}
        )
        conn.command("ROLLBACK")
    assert found.newest_id == values["parent_id"] + MANY // 10
    looked_at = re.findall(r"rows=([\d.]+)|Rows Removed by Filter: (\d+)", plan)
    assert all(float(rows or removed) <= 1 for rows, removed in looked_at), plan


def test_what_was_said_and_taken_back_many_times_is_told_as_it_ended(alice: Person, bob: Person) -> None:
    post = alice.post_photo("Talkative")

    def told() -> list[tuple[str, int]]:
        found = alice.get("/v1/notifications")["items"]
        return [(one["type"], one["at"]) for one in found if one["subject"]["id"] == post["id"]]

    stays = comment(bob, post)
    for _ in range(5):
        made = comment(bob, post)
        delete(bob, reply(bob, made))
        delete(bob, made)
    # Reactions move the post's version, and tell nothing of comments.
    bob.put(f"/v1/posts/{post['id']}/save")
    wait_until(lambda: told() == [("comment", ids.made_at(ids.decode(stays["id"])))])
    delete(bob, stays)
    wait_until(lambda: told() == [])
