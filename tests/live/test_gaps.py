"""What could be missed without anybody noticing: inboxes trimmed, a link cut; and what a flood of pings may cost."""

import socket
from urllib.parse import urlsplit

import psutil
import pytest

from infra.local.stack import Stack
from shared.kernel import cache
from shared.live import publish
from shared.profiles import reads as profiles
from tests.client import Person, wait_until


def id_of(person: Person) -> int:
    return profiles.named([person.username])[person.username]


def send(person_id: int, numbers: range) -> None:
    for number in numbers:
        publish.deliver([person_id], "test.number", b"%d" % number)


def send_all(raw: socket.socket, chunks: list[bytes]) -> None:
    for chunk in chunks:
        raw.sendall(chunk)


def test_an_inbox_that_was_trimmed_since_is_a_resync(stack: Stack, alice: Person) -> None:
    alice_id = id_of(alice)
    with alice.live() as live:
        send(alice_id, range(1))
        first = live.event("test.number")["seq"]
    send(alice_id, range(1, 1500))
    with alice.live() as live:
        live.act("resume", {"after": first})
        assert [event["event"] for event in live.events] == ["resync"]


def test_a_cut_link_to_redis_loses_nothing_and_repeats_nothing(stack: Stack, alice: Person) -> None:
    alice_id = id_of(alice)
    with alice.live() as live:
        for start in range(0, 500, 100):
            send(alice_id, range(start, start + 50))
            cache.run_sync(("CLIENT", "KILL", "TYPE", "PUBSUB"))
            send(alice_id, range(start + 50, start + 100))
        wait_until(lambda: live.receive()["data"] == 499)
        assert [event["data"] for event in live.events] == list(range(500))


def test_pings_are_answered_but_a_flood_of_them_is_cut_off_and_costs_no_memory(stack: Stack, alice: Person) -> None:
    with alice.live() as live:
        assert live.socket.ping(b"there?").wait(5)
    url = urlsplit(stack.live)
    process = psutil.Process(stack.reread().pids["live"])
    tree = [process, *process.children(recursive=True)]
    before = sum(one.memory_info().rss for one in tree)
    with socket.create_connection((url.hostname or "", url.port or 0), timeout=5) as raw:
        raw.sendall(
            f"GET {url.path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: i9lyfe.v1.json\r\n"
            f"Authorization: Bearer {alice.session['access_token']}\r\n\r\n".encode()
        )
        flood = (b"\x89\xfd" + bytes(4) + b"p" * 125) * 1000
        with pytest.raises(OSError, match=r"reset|Broken pipe|timed out"):
            send_all(raw, [flood] * 20_000)
    assert sum(one.memory_info().rss for one in tree) - before < 50 << 20
