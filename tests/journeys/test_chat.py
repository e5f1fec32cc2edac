"""Two talk: what they say, read, answer, edit and delete, and what each of them sees of it."""

import pytest

from infra.local.stack import Stack
from tests.chat.talk import acknowledge, chats, friends, history, react, text, words_of, write
from tests.client import Format, sign_up


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_a_conversation(stack: Stack, format: Format) -> None:
    alice, bob = (sign_up(stack, format=format) for _ in range(2))
    friends(alice, bob)
    cards = {one.username: one.get(f"/v1/users/{one.username}")["user"] for one in (alice, bob)}
    assert chats(alice) == history(alice, bob) == []

    hello = write(alice, bob, "  Hello, Bob! ")
    assert hello == {
        "id": hello["id"],
        "content": text("Hello, Bob!"),
        "chat_with": cards[bob.username],
        "sender": cards[alice.username],
        "reply_to": None,
        "reactions": [],
        "status": "sent",
        "sent_at": hello["sent_at"],
        "delivered_at": None,
        "read_at": None,
        "edited_at": None,
        "deleted_at": None,
    }
    (seen,) = history(bob, alice)
    assert seen == hello | {"chat_with": cards[alice.username]}
    assert chats(bob) == [
        {"with": cards[alice.username], "last_message": seen, "unread_count": 1, "updated_at": hello["sent_at"]}
    ]
    assert [chat["unread_count"] for chat in chats(alice)] == [0]
    assert (bob.get("/v1/me")["unread"]["chats"], alice.get("/v1/me")["unread"]["chats"]) == (1, 0)

    chat = acknowledge(bob, alice, delivered_up_to=hello)
    assert (chat["unread_count"], chat["last_message"]["status"]) == (1, "delivered")
    chat = acknowledge(bob, alice, read_up_to=hello)
    assert (chat["unread_count"], chat["last_message"]["status"]) == (0, "read")
    assert chats(bob) == [chat]
    assert bob.get("/v1/me")["unread"]["chats"] == 0
    (read,) = history(alice, bob)
    assert read["delivered_at"] <= read["read_at"]
    assert read == hello | {"status": "read", "delivered_at": read["delivered_at"], "read_at": read["read_at"]}

    answer = write(bob, alice, "Hello yourself", reply_to=hello)
    assert answer["reply_to"] == {"id": hello["id"], "sender": cards[alice.username], "excerpt": "Hello, Bob!"}
    assert words_of(history(alice, bob)) == words_of(history(bob, alice)) == ["Hello yourself", "Hello, Bob!"]

    loved = react(alice, answer, "❤")
    assert loved["reactions"] == [{"user": cards[alice.username], "emoji": "❤️"}]
    assert react(alice, answer, "🦊")["reactions"] == [{"user": cards[alice.username], "emoji": "🦊"}]
    assert history(bob, alice)[0]["reactions"] == [{"user": cards[alice.username], "emoji": "🦊"}]
    assert alice.delete(f"/v1/messages/{answer['id']}/reaction")["reactions"] == []

    edited = alice.patch(f"/v1/messages/{hello['id']}", {"content": text("Good morning")})
    assert edited == read | {"content": text("Good morning"), "edited_at": edited["edited_at"]}
    newest, oldest = history(bob, alice)
    assert oldest == edited | {"chat_with": cards[alice.username]}
    assert newest["reply_to"]["excerpt"] == "Good morning"

    alice.delete(f"/v1/messages/{hello['id']}?for=everyone")
    newest, oldest = history(bob, alice)
    assert oldest["deleted_at"] >= oldest["edited_at"]
    assert oldest == edited | {
        "chat_with": cards[alice.username],
        "content": None,
        "deleted_at": oldest["deleted_at"],
    }
    assert newest["reply_to"] == {"id": hello["id"], "sender": cards[alice.username], "excerpt": None}

    bob.delete(f"/v1/messages/{newest['id']}?for=me")
    assert [one["id"] for one in history(bob, alice)] == [hello["id"]]
    assert [one["id"] for one in history(alice, bob)] == [answer["id"], hello["id"]]

    alice.delete(f"/v1/chats/{bob.username}")
    assert history(alice, bob) == chats(alice) == []
    assert [one["id"] for one in history(bob, alice)] == [hello["id"]]
    back = write(bob, alice, "Still there?")
    assert [one["id"] for one in history(alice, bob)] == [back["id"]]
    assert [(chat["unread_count"], chat["last_message"]["id"]) for chat in chats(alice)] == [(1, back["id"])]
