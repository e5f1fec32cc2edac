"""What could be missed without anybody noticing: inboxes trimmed, a link cut; and what a flood of pings may cost."""

import asyncio
import json
import socket as sockets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from infra.local.stack import Stack
from realtime_service import inbox
from shared.kernel import cache, clock, ids
from shared.live import publish
from shared.presence import reads as presences
from shared.profiles import reads as profiles
from tests.client import Live, Person, wait_until


@pytest.fixture(autouse=True)
def noted(stack: Stack) -> None:
    """The service knows this Redis, though another test may have emptied it just now."""
    asyncio.run(inbox.note_boot())


def id_of(person: Person) -> int:
    return profiles.named([person.username])[person.username]


JSON = [Subprotocol("i9lyfe.v1.json")]


def bearer(person: Person) -> dict[str, str]:
    return {"Authorization": f"Bearer {person.session['access_token']}"}


def send(person_id: int, numbers: range) -> None:
    for number in numbers:
        publish.deliver([person_id], "test.number", b"%d" % number)


@contextmanager
def sending(person_ids: list[int]) -> Iterator[list[int]]:
    """Send 0, 1, 2 … to all of them while the block runs; the list is what has been sent so far."""
    sent: list[int] = []
    ended = threading.Event()

    def send_on() -> None:
        for number in count():
            publish.deliver(person_ids, "test.number", b"%d" % number)
            sent.append(number)
            if ended.wait(0.001):
                break

    thread = threading.Thread(target=send_on)
    thread.start()
    try:
        yield sent
    finally:
        ended.set()
        thread.join()


def cut_and_mended(person_id: int) -> None:
    """Cut the live service's link to Redis, and wait until it listens again: it has not yet read what it missed."""
    name = publish.channel(person_id)
    assert cache.run_sync(("PUBSUB", "NUMSUB", name))[0][1] == 1
    cache.run_sync(("CLIENT", "KILL", "TYPE", "PUBSUB"))
    until = time.monotonic() + 15
    while cache.run_sync(("PUBSUB", "NUMSUB", name))[0][1] == 0:
        assert time.monotonic() < until


def heard_up_to(last: int, live: Live) -> list[Any]:
    """What a socket heard until `last` came: numbers, and {} where it was told to read anew."""
    while live.receive()["data"] != last:
        pass
    return [event["data"] for event in live.events]


def is_whole(heard: list[Any]) -> bool:
    """Whether all numbers came once and in order, but for those that a resync stands for."""
    following = 0
    for earlier, number in zip([{}, *heard], heard, strict=False):
        if number == {}:
            continue
        if number < following or (number > following and earlier != {}):
            return False
        following = number + 1
    return True


def send_all(raw: sockets.socket, chunks: list[bytes]) -> None:
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


def test_what_came_live_before_a_resume_is_not_sent_again(stack: Stack, alice: Person) -> None:
    alice_id = id_of(alice)
    with alice.live() as live:
        send(alice_id, range(1))
        first = live.event("test.number")["seq"]
    send(alice_id, range(1, 10))
    with alice.live() as live:
        live.drain()
        send(alice_id, range(10, 20))
        heard_up_to(19, live)
        replies = [live.act("resume", {"after": first})["data"] for _ in range(2)]
        assert [event["data"] for event in live.events] == [*range(10, 20), *range(1, 10)]
    # Nor is it when the next resume goes on from where this one said.
    assert replies == [{"seq": max(event["seq"] for event in live.events), "resync": False}] * 2
    with alice.live() as live:
        live.act("resume", {"after": replies[0]["seq"]})
        assert live.events == []


def test_who_resumes_first_hears_all_in_order(stack: Stack, alice: Person) -> None:
    alice_id = id_of(alice)
    with alice.live() as live:
        publish.deliver([alice_id], "test.number", b"-1")
        before = live.event("test.number")["seq"]
    # No bound on what waits to be read, with which a client that reads no more would not see that it is closed either.
    options = {"subprotocols": JSON, "additional_headers": bearer(alice), "proxy": None, "max_queue": None}
    with sending([alice_id]) as sent:
        wait_until(lambda: len(sent) > 20)
        with connect(stack.live, **options) as socket:
            live = Live(socket, "json")
            assert live.act("resume", {"after": before})["data"]["resync"] is False
            wait_until(lambda: live.receive() and len(live.events) > 50)
            heard = [event["data"] for event in live.events]
    assert heard == list(range(len(heard)))
    assert len(sent) >= len(heard)


def test_what_resume_answers_can_be_resumed_from(stack: Stack, alice: Person) -> None:
    alice_id = id_of(alice)
    with alice.live() as live:
        # Nothing was ever sent to her: whether that is so, nobody knows of before.
        seq = live.act("resume", {"after": 1})["data"]["seq"]
    for number in range(3):
        with alice.live() as live:
            reply = live.act("resume", {"after": seq})["data"]
            assert (reply["resync"], live.drain()) == (False, [])
        send(alice_id, range(number, number + 1))
        with alice.live() as live:
            reply = live.act("resume", {"after": seq})["data"]
            assert [event["data"] for event in live.events] == [number]
            assert reply == {"seq": live.events[-1]["seq"], "resync": False}
            seq = reply["seq"]


def test_a_long_absence_is_told_to_a_client_that_reads_slowly(stack: Stack, alice: Person) -> None:
    alice_id = id_of(alice)
    with alice.live() as live:
        send(alice_id, range(1))
        first = live.event("test.number")["seq"]
    for number in range(1, 900):
        publish.deliver([alice_id], "test.number", b'{"n":%d,"x":"%b"}' % (number, b"x" * 9000))
    with connect(stack.live, subprotocols=JSON, additional_headers=bearer(alice), proxy=None, max_queue=1) as slow:
        slow.send(json.dumps({"id": 1, "action": "resume", "data": {"after": first}}))
        heard: list[Any] = []
        while "reply_to" not in (message := json.loads(slow.recv(30))):
            heard.append(message["data"]["n"])
            time.sleep(0.002)  # as over a slow link: about 4 MB a second
    assert heard == list(range(1, 900))


def test_a_cut_link_to_redis_loses_nothing_and_repeats_nothing(stack: Stack, alice: Person) -> None:
    alice_id = id_of(alice)
    with alice.live() as live:
        for start in range(0, 500, 100):
            send(alice_id, range(start, start + 50))
            cache.run_sync(("CLIENT", "KILL", "TYPE", "PUBSUB"))
            send(alice_id, range(start + 50, start + 100))
        assert heard_up_to(499, live) == list(range(500))


def test_a_gap_is_told_once_however_often_the_link_is_cut_after_it(stack: Stack, alice: Person) -> None:
    alice_id = id_of(alice)
    here, mark = presences.key(alice_id), f"inbox:missed:{ids.encode(alice_id)}"

    def left_out() -> bool:
        # She counts as gone, as she would had Redis lost it, and is spared an event.
        cache.run_sync(("DEL", here), ("ZADD", here, clock.now_ms() - 1, "gone"))
        publish.present([alice_id])
        return cache.run_sync(("EXISTS", mark)) == [1]

    with alice.live() as live:
        wait_until(left_out)
        cut_and_mended(alice_id)
        live.event("resync")
        cut_and_mended(alice_id)
        send(alice_id, range(1))  # it waits until her inbox has been read
        assert heard_up_to(0, live) == [{}, 0]


def test_a_link_cut_while_events_go_out_loses_none_of_them_for_any_socket(
    stack: Stack, person: Callable[[], Person]
) -> None:
    # One sent after it listens again and before the inbox is read must not make it skip what it missed before.
    people = [person() for _ in range(3)]
    person_ids = [id_of(one) for one in people]
    with ExitStack() as opened:
        sockets = [opened.enter_context(one.live()) for one in people for _ in range(4)]
        with sending(person_ids) as sent:
            for _ in range(10):
                cut_and_mended(person_ids[-1])
                time.sleep(0.1)
        heard = [heard_up_to(sent[-1], live) for live in sockets]
    assert [one for one in heard if not is_whole(one)] == []


def test_pings_are_answered_but_a_flood_of_them_is_cut_off_and_costs_no_memory(stack: Stack, alice: Person) -> None:
    with alice.live() as live:
        assert live.socket.ping(b"there?").wait(5)
    url = urlsplit(stack.live)
    process = psutil.Process(stack.reread().pids["live"])
    tree = [process, *process.children(recursive=True)]
    before = sum(one.memory_info().rss for one in tree)
    with sockets.create_connection((url.hostname or "", url.port or 0), timeout=5) as raw:
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
