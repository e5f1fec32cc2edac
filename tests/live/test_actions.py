"""Endpoints as actions over the socket: the handler, validation, limits and problems that HTTP has."""

from contextlib import ExitStack, suppress
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from infra.local.stack import Stack
from realtime_service.protocol import ACTIONS
from tests.client import Format, Live, Person, decoded, sign_up
from tests.comments.thread import comment
from tests.live.instances import instance


def refused(live: Live, action: str, data: dict[str, Any]) -> dict[str, Any]:
    reply = live.act(action, data)
    assert reply["ok"] is False
    assert reply["error"].pop("instance").startswith("urn:request:")
    return reply["error"]


def over_http(answer: Any) -> dict[str, Any]:
    """A problem as HTTP tells it."""
    return {name: value for name, value in decoded(answer).items() if name != "instance"}


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_one_reacts_over_the_socket_as_over_http(stack: Stack, alice: Person, format: Format) -> None:
    bob = sign_up(stack, format=format)
    post = alice.post_photo("React!")
    said = comment(alice, post)
    with bob.live() as live:
        reply = live.act("react_to_post", {"post_id": post["id"], "emoji": "🔥"})
        assert reply["ok"] is True
        assert reply["data"] == bob.get(f"/v1/posts/{post['id']}")
        assert reply["data"]["viewer"]["reaction"] == "🔥"
        reply = live.act("react_to_comment", {"comment_id": said["id"], "emoji": "👏"})
        assert reply["data"] == bob.get(f"/v1/comments/{said['id']}")
        assert live.act("unreact_to_post", {"post_id": post["id"]})["data"]["reactions"] == {}
        assert live.act("unreact_to_comment", {"comment_id": said["id"]})["data"] == bob.get(
            f"/v1/comments/{said['id']}"
        )


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_one_chats_over_the_socket_as_over_http(stack: Stack, alice: Person, format: Format) -> None:
    bob = sign_up(stack, format=format)
    with bob.live() as live:

        def done(action: str, **data: Any) -> Any:
            reply = live.act(action, data)
            assert reply["ok"] is True, reply
            return reply["data"]

        content = {"type": "text", "text": "Hello"}
        path = f"/v1/chats/{alice.username}/messages"
        said = done("send_message", username=alice.username, client_id="one", content=content)
        assert bob.post(path, {"client_id": "one", "content": content}) == said
        assert done("list_messages", username=alice.username, limit=1) == bob.get(path, limit=1)
        assert done("list_chats", box="inbox") == bob.get("/v1/chats")
        assert done("react_to_message", message_id=said["id"], emoji="👍")["reactions"][0]["emoji"] == "👍"
        assert done("unreact_to_message", message_id=said["id"])["reactions"] == []
        edited = done("edit_message", message_id=said["id"], content=content | {"text": "Hello!"})
        assert edited == bob.get(path)["items"][0]
        chat = done("acknowledge_messages", username=alice.username, read_up_to=said["id"])
        assert [chat] == bob.get("/v1/chats")["items"]
        assert done("delete_message", message_id=said["id"], **{"for": "everyone"}) is None
        assert done("decline_chat", username=alice.username) == done("accept_chat", username=alice.username)
        assert done("clear_chat", username=alice.username) is None
        assert bob.get(path)["items"] == []
        gone = refused(live, "edit_message", {"message_id": said["id"], "content": content})
        assert gone == over_http(bob.ask("PATCH", f"/v1/messages/{said['id']}", {"content": content}))


def test_what_is_wrong_is_the_problem_that_http_has_with_every_fault(alice: Person) -> None:
    post = alice.post_photo("Mine")
    path = f"/v1/posts/{post['id']}/reaction"
    with alice.live() as live:
        absent = refused(live, "react_to_post", {"post_id": "0000000000000", "emoji": "🔥"})
        assert absent == over_http(alice.ask("PUT", "/v1/posts/0000000000000/reaction", {"emoji": "🔥"}))
        for body in ({}, {"emoji": 1, "more": True}, {"emoji": "no"}, {"emoji": "🔥\0"}):
            assert refused(live, "react_to_post", {"post_id": post["id"]} | body) == over_http(
                alice.ask("PUT", path, body)
            )
        found = refused(live, "react_to_post", {"post_id": 1, "emoji": 1})["errors"]
        assert [(one["field"], one["code"]) for one in found] == [("post_id", "wrong_type"), ("emoji", "wrong_type")]
        found = refused(live, "unreact_to_post", {"emoji": "🔥"})["errors"]
        assert [(one["field"], one["code"]) for one in found] == [("post_id", "missing"), ("emoji", "unknown_field")]
        for limit in ("1", 1.5, None, True):
            found = refused(live, "list_messages", {"username": alice.username, "limit": limit})["errors"]
            assert [(one["field"], one["code"]) for one in found] == [("limit", "wrong_type")]
        assert refused(live, "create_post", {})["code"] == "unknown_action"
        assert alice.get(f"/v1/posts/{post['id']}")["reactions"] == {}


def test_actions_are_limited_as_requests_are(stack: Stack, alice: Person) -> None:
    post = alice.post_photo("Often")
    with instance(stack, RATE_LIMIT_SCALE="1") as there, ExitStack() as sockets:
        statuses: list[int] = []
        # As many as one socket may send at once, and with all of them more than a user may in a minute.
        opened = [sockets.enter_context(alice.live(there.url)) for _ in range(7)]
        for live in opened:
            replies = [live.act("unreact_to_post", {"post_id": post["id"]}) for _ in range(38)]
            statuses += [200 if reply["ok"] else reply["error"]["status"] for reply in replies]
        assert statuses[:240] == [200] * 240
        assert statuses[-1] == 429
        assert refused(opened[-1], "unreact_to_post", {"post_id": post["id"]})["retry_after"] >= 1


def test_a_session_that_has_ended_acts_no_more(alice: Person, bob: Person) -> None:
    post = bob.post_photo("Bye")
    with suppress(ConnectionClosed), alice.live() as live:
        alice.post("/v1/logout")
        live.send({"id": "late", "action": "react_to_post", "data": {"post_id": post["id"], "emoji": "🔥"}})
        assert live.close_code() == 4401
    assert bob.get(f"/v1/posts/{post['id']}")["reactions"] == {}


def test_no_action_has_two_fields_of_one_name() -> None:
    assert {"react_to_post", "unreact_to_post", "react_to_comment", "unreact_to_comment"} <= set(ACTIONS)
    for endpoint in ACTIONS.values():
        kinds = [kind for kind in (endpoint.query, endpoint.body) if kind is not None]
        names = [*endpoint.path_parameters, *[name for kind in kinds for name in kind.__struct_encode_fields__]]
        assert len(names) == len(set(names)), endpoint.name
