"""Lists of chats and messages: every page, whatever comes and goes meanwhile, with Redis and without."""

from collections.abc import Callable
from typing import Any

import pytest

from infra.local.stack import Stack
from shared.chat.projection import MESSAGES
from shared.kernel import cache, db, ids
from shared.profiles import reads as profiles
from tests.chat.talk import chats, friends, history, text, words_of, write
from tests.client import Person, sign_up, trips
from tests.heard import wait_until_heard

# So many messages as if they had been sent, oldest first.
INSERT = db.Statement(
    """INSERT INTO messages (id, chat_id, sender_id, recipient_id, client_id, content)
       SELECT m.id + n, m.chat_id, m.sender_id, m.recipient_id, 'many ' || n,
              jsonb_build_object('type', 'text', 'text', CAST(n AS text))
         FROM messages m, generate_series(1, CAST(:count AS integer)) n WHERE m.id = :id"""
)
MOVE = db.Statement("UPDATE chats SET last_message_id = :id + :count WHERE last_message_id = :id")


def many(alice: Person, bob: Person, count: int) -> None:
    """So many messages of one to the other, and one before them."""
    first = ids.decode(write(alice, bob, "0")["id"])
    with db.connection() as conn:
        INSERT.run(conn, id=first, count=count)
        MOVE.run(conn, id=first, count=count)
    forget(alice, bob)


def forget(alice: Person, bob: Person) -> None:
    """What Redis holds of a chat, gone."""
    found = profiles.named([alice.username, bob.username])
    pairs = [(found[one.username], found[other.username]) for one, other in ((alice, bob), (bob, alice))]
    keys = [MESSAGES.key(pair) for pair in pairs]
    keys += [f"{name}:{ids.encode(user_id)}" for user_id in found.values() for name in ("chats", "chat_requests")]
    cache.run_sync(("DEL", *keys))


@pytest.mark.parametrize("limit", [7, 60, 100])
def test_pages_go_on_beyond_what_redis_keeps(alice: Person, bob: Person, limit: int) -> None:
    friends(alice, bob)
    many(alice, bob, 250)
    assert words_of(history(bob, alice, limit)) == [str(number) for number in range(250, -1, -1)]


def test_the_newest_are_read_of_redis_and_older_ones_of_postgres(alice: Person, bob: Person, stack: Stack) -> None:
    friends(alice, bob)
    many(alice, bob, 150)
    # Of a message, what Redis has of its chat is dropped once more when it is heard of.
    wait_until_heard(stack)
    path = f"/v1/chats/{alice.username}/messages"
    cursor, asked = None, []
    for _ in range(5):
        query = f"?limit=40&cursor={cursor}" if cursor else "?limit=40"
        bob.get(path + query)
        answer = bob.ask("GET", path + query)
        cursor = answer.json()["next_cursor"]
        asked.append((trips(answer, "redis"), trips(answer, "postgres")))
        if cursor is None:
            break
    assert asked == [(1, 0), (1, 0), (1, 1), (1, 1)]


def test_a_cursor_stays_where_it_was_while_others_come_and_go(alice: Person, bob: Person, stack: Stack) -> None:
    friends(alice, bob)
    said = [write(alice, bob, str(number)) for number in range(9)]
    path = f"/v1/chats/{bob.username}/messages"
    page = alice.get(path, limit=3)
    seen = [one["content"]["text"] for one in page["items"]]
    write(bob, alice, "new")
    alice.delete(f"/v1/messages/{said[6]['id']}")
    alice.delete(f"/v1/messages/{said[4]['id']}")
    alice.patch(f"/v1/messages/{said[3]['id']}", {"content": text("3 edited")})
    forget(alice, bob)
    while page["next_cursor"]:
        page = alice.get(path, limit=3, cursor=page["next_cursor"])
        seen += [one["content"]["text"] for one in page["items"]]
    assert seen == ["8", "7", "6", "5", "3 edited", "2", "1", "0"]
    foreign = alice.get("/v1/chats", limit=1)["next_cursor"]
    assert foreign is None
    people = [sign_up(stack) for _ in range(2)]
    for one in people:
        write(alice, one, "Hm")
    cursor = alice.get("/v1/chats", limit=1)["next_cursor"]
    assert alice.ask("GET", f"{path}?cursor={cursor}").status_code == 422
    assert alice.ask("GET", f"/v1/chats?box=requests&cursor={cursor}").status_code == 422
    assert alice.ask("GET", "/v1/chats?box=spam").status_code == 422


def test_chats_are_listed_latest_first_and_no_page_is_short(alice: Person, person: Callable[[], Person]) -> None:
    others = [person() for _ in range(6)]
    for one in others:
        write(alice, one, "Hello")
    alice.put(f"/v1/users/{others[4].username}/block")
    others[2].put(f"/v1/users/{alice.username}/block")
    write(others[0], alice, "Hello yourself")

    def named(pages: list[list[dict[str, Any]]]) -> list[str]:
        return [chat["with"]["username"] for page in pages for chat in page]

    for _ in range(2):
        pages, cursor = [], {}
        while True:
            page = alice.get("/v1/chats", limit=2, **cursor)
            pages.append(page["items"])
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
        # Whether more follow what is hidden is for the next page to say.
        assert [len(page) for page in pages if page] == [2, 2]
        assert named(pages) == [others[number].username for number in (0, 5, 3, 1)]
        for one in others:
            forget(alice, one)
    # With who is muted one still talks.
    alice.put(f"/v1/users/{others[0].username}/mute")
    assert named([chats(alice)])[0] == others[0].username


def test_what_redis_lost_is_there_still(alice: Person, bob: Person) -> None:
    friends(alice, bob)
    said = write(alice, bob, "There")
    before = (history(bob, alice), chats(bob), chats(alice))
    forget(alice, bob)
    assert (history(bob, alice), chats(bob), chats(alice)) == before
    alice.delete(f"/v1/messages/{said['id']}?for=everyone")
    forget(alice, bob)
    assert [one["content"] for one in history(bob, alice)] == [None]
    assert chats(bob)[0]["last_message"]["content"] is None
