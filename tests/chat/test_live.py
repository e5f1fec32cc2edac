"""Chat as it is heard live: on all devices of both, once, and what is heard is what is read."""

import random
from typing import Any

import msgspec
import pytest

from infra.local.stack import Stack
from shared.chat import live as telling
from shared.chat.model import (
    ChatEvent,
    MessageDeleted,
    MessageEdited,
    MessageReacted,
    MessagesAcknowledged,
    MessageSent,
)
from shared.kernel import db, ids
from shared.live import publish
from shared.profiles import reads as profiles
from tests.chat.talk import acknowledge, friends, history, react, text, write
from tests.client import Format, Live, Person, sign_up, standing_still, wait_until


class OutboxRow(msgspec.Struct, frozen=True):
    topic: str
    payload: bytes


KINDS = {
    kind.topic: kind for kind in (MessageSent, MessageEdited, MessageDeleted, MessageReacted, MessagesAcknowledged)
}
WAITING = db.Statement(
    "SELECT topic, payload FROM outbox WHERE topic = ANY(CAST(:topics AS text[])) ORDER BY id", OutboxRow
)


def id_of(person: Person) -> int:
    return profiles.named([person.username])[person.username]


def told(live: Live, name: str) -> list[Any]:
    return [event["data"] for event in live.drain() if event["event"] == name]


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_both_hear_everything_on_every_device(stack: Stack, format: Format) -> None:
    alice, bob = (sign_up(stack, format=format) for _ in range(2))
    friends(alice, bob)
    cards = {one.username: one.get(f"/v1/users/{one.username}")["user"] for one in (alice, bob)}
    hers, his = cards[alice.username], cards[bob.username]
    with alice.live() as phone, alice.live() as laptop, bob.live() as other:
        said = write(alice, bob, "Hello")
        for device in (phone, laptop):
            assert device.event("message.created")["data"] == said
        assert other.event("message.created")["data"] == said | {"chat_with": hers}

        acknowledge(bob, alice, read_up_to=said)
        marks = {"user": his, "delivered_up_to": said["id"], "read_up_to": said["id"]}
        assert phone.event("message.acknowledged")["data"] == marks | {"chat_with": his}
        assert other.event("message.acknowledged")["data"] == marks | {"chat_with": hers}

        edited = alice.patch(f"/v1/messages/{said['id']}", {"content": text("Hello!")})
        assert laptop.event("message.edited")["data"] == edited
        assert other.event("message.edited")["data"] == edited | {"chat_with": hers}

        react(bob, said, "👍")
        reaction = {"message_id": said["id"], "user": his, "emoji": "👍"}
        assert phone.event("message.reacted")["data"] == other.event("message.reacted")["data"] == reaction
        bob.delete(f"/v1/messages/{said['id']}/reaction")
        wait_until(lambda: told(phone, "message.reacted")[1:] == [reaction | {"emoji": None}])

        bob.delete(f"/v1/messages/{said['id']}")
        assert other.event("message.deleted")["data"] == {
            "id": said["id"],
            "chat_with": hers,
            "for": "me",
            "deleted_at": None,
        }
        alice.delete(f"/v1/messages/{said['id']}?for=everyone")
        gone = laptop.event("message.deleted")["data"]
        assert gone == {"id": said["id"], "chat_with": his, "for": "everyone", "deleted_at": gone["deleted_at"]}
        assert history(alice, bob)[0]["deleted_at"] == gone["deleted_at"]
        assert told(other, "message.deleted")[1:] == []  # it is deleted for him
        assert len(told(phone, "message.created")) == len(told(other, "message.created")) == 1


def applied(events: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What a client knows of messages by what it heard: it puts in what it is told whole, and changes what it has."""
    known: dict[str, dict[str, Any]] = {}
    for event in events:
        data = event["data"]
        match event["event"]:
            case "message.created" | "message.edited":
                known[data["id"]] = data
            case "message.deleted" if data["id"] in known:
                emptied = {"content": None, "reactions": [], "reply_to": None, "deleted_at": data["deleted_at"]}
                known[data["id"]] |= emptied
            case "message.reacted" if data["message_id"] in known:
                message = known[data["message_id"]]
                others = [one for one in message["reactions"] if one["user"] != data["user"]]
                own = [{"user": data["user"], "emoji": data["emoji"]}] if data["emoji"] else []
                message["reactions"] = sorted([*own, *others], key=lambda one: one["user"] != message["sender"])
            case _:
                pass
    return known


@pytest.mark.parametrize("seed", range(4))
def test_in_any_order_any_number_of_times_both_end_with_what_is_read(
    stack: Stack, alice: Person, bob: Person, seed: int
) -> None:
    friends(alice, bob)
    with alice.live() as hers, bob.live() as his, standing_still(stack, "background", "relay"):
        said = [write(alice, bob, str(number)) for number in range(3)]
        alice.patch(f"/v1/messages/{said[0]['id']}", {"content": text("Edited")})
        react(bob, said[0], "👍")
        react(alice, said[1], "🦊")
        alice.patch(f"/v1/messages/{said[1]['id']}", {"content": text("Edited too")})
        react(bob, said[1], "👍")
        bob.delete(f"/v1/messages/{said[1]['id']}/reaction")
        react(bob, said[2], "👍")
        alice.delete(f"/v1/messages/{said[2]['id']}?for=everyone")
        with db.connection() as conn:
            rows = WAITING.all(conn, topics=[*KINDS])
        events: list[ChatEvent] = [msgspec.json.decode(row.payload, type=KINDS[row.topic]) for row in rows]
        events = [event for event in events if {event.user_id, event.other_id} == {id_of(alice), id_of(bob)}] * 2
        assert len(events) == 2 * 11
        random.Random(seed).shuffle(events)
        for event in events:
            telling.push_message(event)  # type: ignore[arg-type]
        end = f"test.end.{ids.new_id()}"
        publish.deliver([id_of(alice), id_of(bob)], end, b"null")
        for live, reader, other in ((hers, alice, bob), (his, bob, alice)):
            live.event(end)
            assert applied(live.events) == {one["id"]: one for one in history(reader, other)}
            created = [event for event in live.events if event["event"] == "message.created"]
            assert len(created) == 3


def test_nobody_hears_across_a_block(alice: Person, bob: Person, stack: Stack) -> None:
    friends(alice, bob)
    with bob.live() as his, alice.live() as hers, standing_still(stack, "background", "relay"):
        said = write(alice, bob, "Too late")
        bob.put(f"/v1/users/{alice.username}/block")
        telling.push_message(MessageSent(id_of(alice), id_of(bob), ids.decode(said["id"])))
        acknowledged = MessagesAcknowledged(id_of(alice), id_of(bob))
        telling.push_watermarks(acknowledged)
        bob.delete(f"/v1/users/{alice.username}/block")
        end = f"test.end.{ids.new_id()}"
        publish.deliver([id_of(alice), id_of(bob)], end, b"null")
        for live in (his, hers):
            live.event(end)
            assert not [event for event in live.events if event["event"].startswith("message.")]
