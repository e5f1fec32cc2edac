"""What a socket may ask for, at each limit and one beyond; and what it costs while it asks for nothing."""

import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from typing import Any

import psutil
import pytest

from infra.bench.sockets import IDLE_KIB, Crowd
from infra.local.stack import Stack
from realtime_service.connection import BURST, MAX_ASKED
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


def test_one_more_request_than_may_wait_is_refused_and_those_that_wait_are_answered(alice: Person) -> None:
    post = alice.post_photo("Wait")["id"]
    more = 3
    with alice.live() as live:
        with db.transaction() as conn:
            posts.LOCK.one(conn, id=ids.decode(post))
            live.send({"id": "held", "action": "react_to_post", "data": {"post_id": post, "emoji": "👍"}})
            wait_until(lambda: somebody_waits_for(conn))
            for number in range(MAX_ASKED + more):
                if number == MAX_ASKED - 10:  # at no rate that would be too fast
                    assert live.socket.ping().wait(15)
                    time.sleep(1)
                live.send({"id": number, "action": "ping"})
            refused = list(islice(replies(live), more))
        answered = list(islice(replies(live), 1 + MAX_ASKED))
        assert [reply["reply_to"] for reply in refused] == list(range(MAX_ASKED, MAX_ASKED + more))
        assert {(reply["error"]["status"], reply["error"]["retry_after"]) for reply in refused} == {(429, 1)}
        assert [(reply["reply_to"], reply["ok"]) for reply in answered] == [
            (name, True) for name in ("held", *range(MAX_ASKED))
        ]


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
