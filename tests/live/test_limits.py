"""What a socket may ask for, at each limit and one beyond; and what it costs while it asks for nothing."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from itertools import islice
from typing import Any

import psutil
import pytest
from websockets.exceptions import ConnectionClosed

from infra.bench.sockets import IDLE_KIB, Crowd
from infra.local.stack import Stack
from realtime_service.connection import MAX_ASKED
from realtime_service.intake import MAX_READ
from realtime_service.wire import BURST, MAX_FRAME
from shared.kernel import cache, codec, db, ids, sessions, tokens
from shared.posts import store as posts
from tests.client import Format, Live, Person, sign_up, wait_until
from tests.live.instances import instance
from tests.live.test_protocol import CLOSE, PING, PONG, frame, head_of, upgraded
from tests.locks import somebody_waits_for

SOCKETS = 1500
WARM_UP = 200


def nested(levels: int) -> Any:
    """A request that nests so deep, itself counted."""
    value: Any = 1
    for _ in range(levels - 2):
        value = [value]
    return {"id": 1, "action": "ping", "data": {"x": value}}


def replies(live: Live) -> Iterator[dict[str, Any]]:
    """What comes but for events."""
    while True:
        message = live.receive()
        if "reply_to" in message:
            yield message


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_a_request_nests_as_deep_as_a_body_may(stack: Stack, format: Format) -> None:
    person = sign_up(stack, format=format)
    with person.live() as live:
        live.send(nested(codec.MAX_DEPTH))
        assert live.receive()["reply_to"] == 1
        live.send(nested(codec.MAX_DEPTH + 1))
        assert live.close_code() == 4400


def test_so_many_frames_at_once_are_taken_and_one_more_is_4429(stack: Stack, alice: Person) -> None:
    for extra, code in ((0, 1000), (1, 4429)):
        with upgraded(stack, head_of(stack, alice)) as (_, raw):
            # In one piece, so that no time passes in which more would be allowed.
            raw.send(frame(PING) * (int(BURST) + extra) + frame(CLOSE, (1000).to_bytes(2, "big")))
            assert [raw.receive()[0] for _ in range(int(BURST))] == [PONG] * int(BURST)
            assert raw.close_code() == code


@contextmanager
def asked_and_held(live: Live, post: str) -> Iterator[None]:
    """As many requests as may wait do, for one that is answered when the block ends; ten more may come at once."""
    with db.transaction() as conn:
        posts.LOCK.one(conn, id=ids.decode(post))
        live.send({"id": "held", "action": "react_to_post", "data": {"post_id": post, "emoji": "👍"}})
        wait_until(lambda: somebody_waits_for(conn))
        for number in range(MAX_ASKED):
            if number == MAX_ASKED - 10:  # at no rate that would be too fast
                assert live.socket.ping().wait(15)
                time.sleep(1)
            live.send({"id": number, "action": "ping"})
        yield


def test_one_more_request_than_may_wait_is_refused_and_those_that_wait_are_answered(alice: Person) -> None:
    post = alice.post_photo("Wait")["id"]
    more = range(MAX_ASKED, MAX_ASKED + 3)
    with alice.live() as live:
        with asked_and_held(live, post):
            for number in more:
                live.send({"id": number, "action": "ping"})
            refused = list(islice(replies(live), len(more)))
        answered = list(islice(replies(live), 1 + MAX_ASKED))
        assert [reply["reply_to"] for reply in refused] == list(more)
        assert {(reply["error"]["status"], reply["error"]["retry_after"]) for reply in refused} == {(429, 1)}
        assert [(reply["reply_to"], reply["ok"]) for reply in answered] == [
            (name, True) for name in ("held", *range(MAX_ASKED))
        ]


AT_FAULT = {
    "no request": (4400, b"nonsense", True),
    "binary for text": (4400, b"{}", False),
    "not UTF-8": (1007, b'{"id":"\xff","action":"ping"}', True),
    "too large": (4413, b"x" * (MAX_FRAME + 1), True),
    "larger than is read": (4413, b"x" * 2 * MAX_READ, True),
}


@pytest.mark.parametrize("case", AT_FAULT)
def test_what_was_asked_before_a_frame_at_fault_is_answered_and_nothing_after_it(alice: Person, case: str) -> None:
    code, body, is_text = AT_FAULT[case]
    post = alice.post_photo("Wait")["id"]
    with alice.live() as live:
        with asked_and_held(live, post):
            live.socket.send(body, text=is_text)
            live.send({"id": "after", "action": "ping"})
            # It is there until they are answered; but of what is larger than is read no end is ever seen.
            assert len(body) > MAX_READ or live.socket.ping().wait(15)
        answered: list[tuple[Any, bool]] = []
        with pytest.raises(ConnectionClosed) as closed:
            answered.extend((reply["reply_to"], reply["ok"]) for reply in replies(live))
        assert answered == [(name, True) for name in ("held", *range(MAX_ASKED))]
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == code


def test_who_goes_on_too_fast_after_a_frame_at_fault_is_not_waited_for(alice: Person) -> None:
    post = alice.post_photo("Wait")["id"]
    with alice.live() as live, asked_and_held(live, post):
        live.socket.send("nonsense")
        with suppress(ConnectionClosed):
            for _ in range(2 * int(BURST)):
                live.send({"id": "after", "action": "ping"})
        assert live.close_code() == 4400


def test_an_idle_socket_takes_no_more_memory_than_it_may(stack: Stack) -> None:
    session_id = ids.new_id()
    cache.run_sync(sessions.started(session_id))
    owners = [tokens.issue_access(ids.new_id(), session_id)[0] for _ in range(SOCKETS)]
    with instance(stack) as there, closing(Crowd(there.url, owners[:WARM_UP])):
        process = psutil.Process(there.process.pid)
        before = process.memory_info().rss
        with closing(Crowd(there.url, owners[WARM_UP:])):
            taken = process.memory_info().rss - before
    cache.run_sync(sessions.ended(session_id))
    assert 1 <= taken / (SOCKETS - WARM_UP) / 1024 <= IDLE_KIB
