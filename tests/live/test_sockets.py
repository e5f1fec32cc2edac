"""The live service as its clients see it: real sockets against the real process."""

import json
from collections.abc import Callable

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from infra.local.stack import Stack
from shared.kernel import ids, tokens
from shared.profiles import reads as profiles
from tests.client import Format, Live, Person, wait_until

JSON = [Subprotocol("i9lyfe.v1.json")]


def close_code_of(url: str, *frames: str | bytes, headers: dict[str, str] | None = None) -> int:
    with connect(url, subprotocols=JSON, additional_headers=headers, proxy=None) as socket:
        try:
            for frame in frames:
                socket.send(frame)
        except ConnectionClosed as closed:
            # It closed before the last was sent.
            return closed.rcvd.code if closed.rcvd else 1006
        return Live(socket, "json").close_code()


def bearer(person: Person) -> dict[str, str]:
    return {"Authorization": f"Bearer {person.session['access_token']}"}


def test_a_follower_sees_a_post_arrive_live_with_the_same_content_as_a_fresh_read(alice: Person, bob: Person) -> None:
    bob.follow(alice.username)
    with bob.live() as live:
        post = alice.post_photo(f"Look, @{bob.username}! #live")
        event = live.event("feed.post_created")
        assert event["data"] == post == bob.get(f"/v1/posts/{post['id']}")
        notification = live.event("notification.created")
        assert notification["data"] == bob.get("/v1/notifications")["items"][0]
        alice.delete(f"/v1/posts/{post['id']}")
        assert live.event("feed.post_deleted")["data"] == {"id": post["id"]}
        assert live.event("notification.revoked")["data"] == {"id": notification["data"]["id"]}
        seqs = [seen["seq"] for seen in live.drain()]
        assert seqs == sorted(set(seqs))
        assert len(live.events) == 4


def test_every_device_hears_and_resume_gives_what_was_missed_once_in_order(
    alice: Person, person: Callable[[], Person]
) -> None:
    fans = [person() for _ in range(3)]
    with alice.live() as phone, alice.live() as tablet:
        fans[0].follow(alice.username)
        first = phone.event("notification.created")
        assert tablet.event("notification.created") == first
    for fan in fans[1:]:
        fan.follow(alice.username)
    wait_until(lambda: alice.get("/v1/notifications")["items"][0]["actor_count"] == 3)
    with alice.live() as again:
        reply = again.act("resume", {"after": first["seq"]})
        # Two changes at once may be told as one: what counts is that the last one told is how it is.
        wait_until(lambda: again.drain() and again.events[-1]["data"]["actor_count"] == 3)
        assert reply["ok"] is True
        assert first not in again.events
        assert [event["seq"] for event in again.events] == sorted({event["seq"] for event in again.events})


def test_what_is_no_longer_there_is_a_resync(alice: Person, bob: Person) -> None:
    bob.follow(alice.username)
    with alice.live() as live:
        live.act("resume", {"after": 1})
        assert live.event("resync")["data"] == {}


def test_logging_out_closes_the_session_s_sockets_and_no_others(alice: Person) -> None:
    with alice.live() as live:
        alice.post("/v1/logout")
        assert live.event("session.ended")["data"] == {"session_id": alice.session["id"]}
        assert live.close_code() == 4401
    assert alice.http.get("/v1/me").status_code == 401


def test_a_socket_lives_as_long_as_its_session_not_as_the_token_that_opened_it(
    alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "ACCESS_SECONDS", 3)
    token, _ = tokens.issue_access(profiles.named([alice.username])[alice.username], ids.decode(alice.session["id"]))
    short = Person(alice.stack, alice.username, {"session": alice.session | {"access_token": token}})
    with short.live(ticket=False) as live:
        wait_until(lambda: short.ask("GET", "/v1/me").status_code == 401)
        assert live.act("list_chats")["ok"]
        alice.post("/v1/logout")
        assert live.close_code() == 4401


def test_a_ticket_is_good_once(stack: Stack, alice: Person) -> None:
    ticket = alice.post("/v1/live/tickets")["ticket"]
    with connect(f"{stack.live}?ticket={ticket}", subprotocols=JSON, proxy=None) as socket:
        assert Live(socket, "json").act("ping")["ok"] is True
    assert close_code_of(f"{stack.live}?ticket={ticket}") == 4401


def test_a_ticket_dies_with_its_session(stack: Stack, alice: Person) -> None:
    ticket = alice.post("/v1/live/tickets")["ticket"]
    alice.post("/v1/logout")
    assert close_code_of(f"{stack.live}?ticket={ticket}") == 4401


def test_who_is_not_signed_in_is_told_by_4401(stack: Stack) -> None:
    assert close_code_of(stack.live) == 4401
    assert close_code_of(stack.live, headers={"Authorization": "Bearer not-a-token"}) == 4401
    assert close_code_of(stack.live, headers={"Cookie": "session=forged", "Origin": stack.api}) == 4401


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "nonsense",
        "[]",
        "null",
        '{"action": "ping"}',
        '{"id": {}, "action": "ping"}',
        '{"id": true, "action": "ping"}',
        '{"id": "' + "x" * 65 + '", "action": "ping"}',
        '{"id":"1","action":"ping","data":' + "[" * 40 + "]" * 40 + "}",
        b"\x81\xa2id\x01",
    ],
)
def test_a_frame_that_is_no_request_is_4400(stack: Stack, alice: Person, frame: str | bytes) -> None:
    assert close_code_of(stack.live, frame, headers=bearer(alice)) == 4400
    with alice.live() as live:
        assert live.act("ping")["ok"] is True


def test_a_frame_too_large_is_4413_and_too_many_4429(stack: Stack, alice: Person) -> None:
    assert close_code_of(stack.live, "x" * (64 * 1024 + 1), headers=bearer(alice)) == 4413
    ping = json.dumps({"id": 1, "action": "ping"})
    assert close_code_of(stack.live, *[ping] * 60, headers=bearer(alice)) == 4429


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_a_request_with_faults_is_told_all_of_them_and_the_socket_lives(alice: Person, format: Format) -> None:
    with alice.speaking(format).live() as live:
        for id, (request, faults) in enumerate(
            [
                ({"action": "ping", "x": 1}, {"x": "unknown_field"}),
                ({"data": {}}, {"action": "missing"}),
                (
                    {"action": 7, "data": [], "x": 1},
                    {"action": "wrong_type", "data": "wrong_type", "x": "unknown_field"},
                ),
                ({"action": "resume", "data": {"after": -1, "y": 1}}, {"after": "invalid", "y": "unknown_field"}),
            ]
        ):
            live.send({"id": id, **request})
            reply = live.receive()
            assert (reply["reply_to"], reply["ok"], reply["error"]["status"]) == (id, False, 422)
            assert {fault["field"]: fault["code"] for fault in reply["error"]["errors"]} == faults
        assert live.act("ping")["ok"] is True


def test_an_unknown_action_is_a_problem_not_the_end(alice: Person) -> None:
    with alice.live() as live:
        reply = live.act("dance")
        assert (reply["ok"], reply["error"]["code"]) == (False, "unknown_action")
        assert live.act("ping")["ok"] is True


def test_an_unknown_subprotocol_is_refused(stack: Stack, alice: Person) -> None:
    with pytest.raises(Exception, match="400"):
        connect(stack.live, subprotocols=[Subprotocol("chat")], additional_headers=bearer(alice), proxy=None)
