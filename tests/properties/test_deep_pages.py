"""A page of a list whose entries move reads what the walk has passed, and itself, however long the list is."""

import re
from typing import Any, NamedTuple

import msgspec
import pytest

from shared.chat import store as chat
from shared.comments import store as comments
from shared.kernel import db, ids
from shared.kernel.moving import Walk
from shared.notifications import store as notifications
from shared.profiles import reads as profiles
from tests.client import Person

MANY, PASSED, LIMIT = 3000, 300, 20


class Entry(NamedTuple):
    position: int
    id: int


class PlanRow(msgspec.Struct, frozen=True):
    line: str


# So many entries of somebody's and of somebody else's, in turn. `:first` is an id that nobody has, nor the next ones.
FILL: dict[str, list[str]] = {
    "list_chats": [
        """INSERT INTO users (id, username, email, name, password_hash, created_at)
           SELECT :first + n, 'n' || :first + n, 'n' || :first + n || '@example.com', 'N', '', 0
             FROM generate_series(1, :many) n""",
        """INSERT INTO chats (id, lower_id, higher_id, last_message_id)
           SELECT :first + n, least(:mine, :first + n), greatest(:mine, :first + n), 1
             FROM generate_series(1, :many) n""",
        """INSERT INTO chat_members (user_id, other_id, chat_id, box, position)
           SELECT one, other, :first + n, 'inbox', :first + n FROM generate_series(1, :many) n,
                  LATERAL (VALUES (:mine, :first + n), (:first + n, :mine)) AS v (one, other)""",
    ],
    "list_commented_posts": [
        """INSERT INTO posts (id, author_id, type, media, description, created_at)
           SELECT :first + n, :other, 'reel', '[]', '', 0 FROM generate_series(1, :many) n""",
        """INSERT INTO comments (id, post_id, post_author_id, author_id, text, created_at)
           SELECT :first + 2 * n + of, :first + n, :other, CASE of WHEN 0 THEN :mine ELSE :other END, '', 0
             FROM generate_series(1, :many) n, generate_series(0, 1) of""",
    ],
    "list_notifications": [
        """INSERT INTO notifications (id, user_id, type, subject, latest_id, actor_count, unread)
           SELECT :first + 2 * n + of, CASE of WHEN 0 THEN :mine ELSE :other END, 'follow', 'user:' || n,
                  :first + 2 * n + of, 1, true
             FROM generate_series(1, :many) n, generate_series(0, 1) of""",
        """INSERT INTO notification_actors (notification_id, actor_id, act_id, act_version)
           SELECT :first + 2 * n, :other, :first + 2 * n, 1 FROM generate_series(1, :many) n""",
    ],
}
TABLES = {
    "list_chats": "users, chats, chat_members",
    "list_commented_posts": "posts, comments",
    "list_notifications": "notifications, notification_actors",
}
STATEMENTS: dict[str, db.Statement[Any]] = {
    "list_chats": chat.IN_BOX,
    "list_commented_posts": comments.COMMENTED,
    "list_notifications": notifications.OF_USER,
}


def with_values(sql: str, values: dict[str, Any]) -> str:
    return re.sub(r"(?<!:):([a-z]\w*)", lambda name: str(values[name[1]]), sql)


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize("name", FILL)
def test_a_page_reads_what_was_passed_and_itself(alice: Person, bob: Person, name: str) -> None:
    found = profiles.named([alice.username, bob.username])
    first = ids.new_id()
    values = {"mine": found[alice.username], "other": found[bob.username], "first": first, "many": MANY}
    # A chat's id is its position here, a notification's every second one; of commented posts it is the post's.
    by_two = name == "list_notifications"
    entries = [Entry(first + n * (1 + (name != "list_chats")), first + n * (1 + by_two)) for n in range(1, MANY + 1)]
    walk = msgspec.structs.replace(Walk().past(entries[-PASSED:]), began=first + 3 * MANY).parameters()
    asked = {"user_id": found[alice.username], "box": "'inbox'", "limit": LIMIT} | walk
    asked["passed"] = f"'{{{','.join(map(str, walk['passed']))}}}'"
    names = list(dict.fromkeys(re.findall(r"(?<!:):([a-z]\w*)", STATEMENTS[name].sql)))
    numbered = with_values(STATEMENTS[name].sql, {one: f"${at + 1}" for at, one in enumerate(names)})
    with db.unlimited() as conn:
        conn.command("BEGIN")  # and never committed
        try:
            for sql in FILL[name]:
                conn.command(with_values(sql, values))
            conn.command(f"ANALYZE {TABLES[name]}")
            # As of a statement that was prepared once, for lists of any length.
            conn.command("SET LOCAL plan_cache_mode = force_generic_plan")
            conn.command(f"PREPARE {name} AS {numbered}")
            run = f"EXECUTE {name} ({', '.join(str(asked[one]) for one in names)})"
            explain = db.Statement(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {run}", PlanRow)
            plan = "\n".join(row.line for row in explain.all(conn))
            conn.command(f"DEALLOCATE {name}")
        finally:
            conn.command("ROLLBACK")
    looked_at = [float(rows or out) for rows, out in re.findall(r"rows=([\d.]+)|Rows Removed by Filter: (\d+)", plan)]
    assert looked_at[0] == LIMIT, plan
    assert PASSED <= max(looked_at) <= PASSED + LIMIT + 1, plan
