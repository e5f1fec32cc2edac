"""What a socket may ask for, at each limit and one beyond; and what it costs while it asks for nothing."""

from contextlib import closing
from typing import Any

import psutil
import pytest

from infra.bench.sockets import IDLE_KIB, Crowd
from infra.local.stack import Stack
from realtime_service.connection import BURST
from shared.kernel import cache, codec, ids, sessions, tokens
from tests.client import Format, Person, sign_up
from tests.live.instances import instance
from tests.live.test_protocol import CLOSE, PING, PONG, frame, head_of, upgraded

SOCKETS = 1500
WARM_UP = 200


def nested(levels: int) -> Any:
    """A request that nests so deep, itself counted."""
    value: Any = 1
    for _ in range(levels - 2):
        value = [value]
    return {"id": 1, "action": "ping", "data": {"x": value}}


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
