"""Several instances of the live service, and how one ends."""

import json
import signal
import socket
from collections.abc import Iterator

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from infra.local.stack import Stack
from shared.kernel import db, ids
from shared.live import publish
from shared.posts import store as posts
from shared.profiles import reads as profiles
from tests.client import Person, wait_until
from tests.live.instances import Instance, instance
from tests.locks import somebody_waits_for


@pytest.fixture
def second(stack: Stack) -> Iterator[Instance]:
    """Another instance."""
    with instance(stack, LIVE_PING_SECONDS="0.2", LIVE_IDLE_SECONDS="1") as there:
        yield there


def test_devices_on_two_instances_hear_the_same(alice: Person, bob: Person, second: Instance) -> None:
    bob.follow(alice.username)
    with bob.live() as here, bob.live(second[0]) as there:
        alice.post_photo("Everywhere")
        assert here.event("feed.post_created") == there.event("feed.post_created")


def test_sigterm_sends_clients_elsewhere_and_ends(alice: Person, second: Instance) -> None:
    url, process, _ = second
    with alice.live(url) as live:
        process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            live.receive()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001
    assert 0 <= json.loads(closed.value.rcvd.reason)["reconnect_in_ms"] <= 5000
    assert process.wait(timeout=5) == 0


def test_what_was_asked_before_sigterm_is_answered_and_then_it_ends(alice: Person, second: Instance) -> None:
    post = alice.post_photo("Late")["id"]
    with alice.live(second.url) as asking, alice.live(second.url) as idle:
        with db.transaction() as conn:
            posts.LOCK.one(conn, id=ids.decode(post))
            asking.send({"id": "late", "action": "react_to_post", "data": {"post_id": post, "emoji": "👍"}})
            wait_until(lambda: somebody_waits_for(conn))
            second.process.send_signal(signal.SIGTERM)
            assert idle.close_code() == 1001
        while "reply_to" not in (reply := asking.receive()):
            pass
        assert (reply["reply_to"], reply["data"]["viewer"]["reaction"]) == ("late", "👍")
        assert asking.close_code() == 1001
    assert second.process.wait(timeout=10) == 0


def test_who_answers_no_ping_is_idle(alice: Person, second: Instance) -> None:
    port = second.port
    token = alice.session["access_token"]
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(
            f"GET /v1/live HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Protocol: i9lyfe.v1.json\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        )
        heard = b""
        while data := raw.recv(4096):
            heard += data
    assert (4408).to_bytes(2, "big") + b"idle" in heard


def test_a_slow_reader_is_cut_off_and_holds_nobody_up(stack: Stack, alice: Person, bob: Person) -> None:
    user_id = profiles.named([alice.username])[alice.username]
    big = b'{"text":"%b"}' % (b"x" * 60_000)
    token = alice.session["access_token"]
    with connect(
        stack.live,
        subprotocols=[Subprotocol("i9lyfe.v1.json")],
        additional_headers={"Authorization": f"Bearer {token}"},
        max_queue=1,
        proxy=None,
    ) as slow:
        slow.send('{"id": 1, "action": "ping"}')
        slow.recv()
        sockets = wait_until(lambda: healthz(stack))
        for _ in range(300):
            publish.deliver([user_id], "feed.post_created", big)
        wait_until(lambda: healthz(stack) < sockets)
        with bob.live() as live:
            assert live.act("ping")["ok"] is True


def healthz(stack: Stack) -> int:
    url = stack.live.replace("ws://", "http://").replace("/v1/live", "/healthz")
    return int(httpx.get(url, trust_env=False).json()["sockets"])
