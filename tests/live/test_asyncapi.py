"""The live protocol's document: well made, and what goes over a socket is what it says."""

from typing import Any, cast
from urllib.parse import urlsplit

import httpx
import pytest
from jsonschema import Draft202012Validator

from infra.local.stack import Stack
from realtime_service.asyncapi import document
from realtime_service.protocol import ACTIONS, EVENTS, OWN
from tests.client import Format, Live, Person, sign_up
from tests.comments.thread import comment

DOCUMENT = document()
MESSAGES = DOCUMENT["channels"]["live"]["messages"]


def every(value: Any, key: str) -> list[Any]:
    """All that is under `key`, however deep."""
    if isinstance(value, dict):
        there = cast("dict[str, Any]", value)
        return [
            *([there[key]] if key in there else []),
            *[one for child in there.values() for one in every(child, key)],
        ]
    return [one for child in cast("list[Any]", value) for one in every(child, key)] if isinstance(value, list) else []


def check(name: str, message: dict[str, Any]) -> None:
    """That a message is what the document says of it."""
    schema = {**MESSAGES[name]["payload"], "components": DOCUMENT["components"]}
    Draft202012Validator(schema).validate(message)


def act(live: Live, action: str, data: dict[str, Any]) -> dict[str, Any]:
    check(f"{action}.request", {"id": "1", "action": action, "data": data})
    reply = live.act(action, data)
    check(f"{action}.reply", reply)
    assert reply["ok"], reply
    return reply["data"]


def test_it_is_served_and_shown(stack: Stack) -> None:
    address = urlsplit(stack.live).netloc
    assert httpx.get(f"http://{address}/asyncapi.json", trust_env=False).json() == DOCUMENT
    page = httpx.get(f"{stack.console}/live-docs", trust_env=False)
    assert page.status_code == 200
    for name in (*(f"action-{name}" for name in (*ACTIONS, *OWN)), *(f"event-{name}" for name in EVENTS)):
        assert f'id="{name}"' in page.text


def test_what_it_refers_to_is_there_and_its_schemas_are_schemas() -> None:
    for reference in every(DOCUMENT, "$ref"):
        there: Any = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            there = there[part]
    for message in MESSAGES.values():
        Draft202012Validator.check_schema(message["payload"])
    for operation in DOCUMENT["operations"].values():
        assert operation["action"] in ("send", "receive")
        assert operation["messages"]


def here(live: Live, alice: Person, bob: Person) -> None:
    alice.follow(bob.username)
    act(live, "subscribe", {"topics": [f"presence:{alice.username}"]})
    with alice.live() as hers:
        live.event("presence.changed")
        act(live, "typing", {"to": alice.username, "on": True})
        check("typing.reply", hers.act("typing", {"to": bob.username, "on": True}))
        live.event("typing")


def chat(live: Live, alice: Person, bob: Person) -> None:
    alice.follow(bob.username)
    to, text = {"username": alice.username}, {"type": "text", "text": "Hi"}
    one = act(live, "send_message", {**to, "client_id": "1", "content": text})["id"]
    two = alice.post(f"/v1/chats/{bob.username}/messages", {"client_id": "2", "content": text, "reply_to": one})["id"]
    act(live, "acknowledge_messages", {**to, "read_up_to": two})
    act(live, "react_to_message", {"message_id": two, "emoji": "🔥"})
    act(live, "unreact_to_message", {"message_id": two})
    act(live, "edit_message", {"message_id": one, "content": {"type": "text", "text": "Hello"}})
    act(live, "list_messages", {**to, "limit": 1})
    act(live, "list_chats", {})
    # What is told is what there is by then: nothing of a message that is deleted meanwhile.
    for name in ("created", "acknowledged", "edited", "reacted"):
        live.event(f"message.{name}")
    act(live, "delete_message", {"message_id": one, "for": "everyone"})
    act(live, "delete_message", {"message_id": two, "for": "me"})
    live.event("message.deleted")
    act(live, "clear_chat", to)


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_what_goes_over_a_socket_is_what_it_says(stack: Stack, alice: Person, format: Format) -> None:
    bob = sign_up(stack, format=format)
    bob.follow(alice.username)
    with bob.live() as live:
        post = alice.post_photo(f"For @{bob.username} #live")
        said = comment(bob, post)
        seq = live.event("feed.post_created")["seq"]
        act(live, "ping", {})
        act(live, "subscribe", {"topics": [f"post:{post['id']}", f"comment:{said['id']}"]})
        act(live, "react_to_post", {"post_id": post["id"], "emoji": "🔥"})
        act(live, "unreact_to_post", {"post_id": post["id"]})
        alice.put(f"/v1/comments/{said['id']}/reaction", {"emoji": "👏"})
        act(live, "react_to_comment", {"comment_id": said["id"], "emoji": "🎉"})
        act(live, "unreact_to_comment", {"comment_id": said["id"]})
        act(live, "unsubscribe", {"topics": [f"post:{post['id']}"]})
        act(live, "resume", {"after": seq})
        here(live, alice, bob)
        chat(live, alice, bob)
        live.event("notification.created")
        alice.delete(f"/v1/posts/{post['id']}")
        live.event("feed.post_deleted")
        live.event("notification.revoked")
        refused = live.act("react_to_post", {"post_id": post["id"], "emoji": 1})
        check("react_to_post.reply", refused)
        with bob.live() as later:
            later.act("resume", {"after": 1})
            later.event("resync")
        bob.post("/v1/logout")
        live.event("session.ended")
    heard = [*live.events, *later.events]
    assert {event["event"] for event in heard} == set(EVENTS)
    for event in heard:
        check(event["event"], event)
