"""What a socket may ask for, at each limit and one beyond; and what it costs while it asks for nothing."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any

import psutil
import pytest
import uvloop

from infra.bench.sockets import IDLE_KIB, Crowd
from infra.local.stack import Stack
from realtime_service.connection import MAX_ASKED, Connection
from realtime_service.intake import MAX_READ
from realtime_service.turn import Turn
from realtime_service.wire import BURST, MAX_FRAME, PER_SECOND
from shared.kernel import cache, codec, ids, sessions, tokens
from tests.client import WAIT_SECONDS, Format, Person, sign_up
from tests.live.instances import instance
from tests.live.test_closing import opened
from tests.live.test_protocol import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame, head_of, upgraded

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


def request(id: Any) -> bytes:
    return frame(TEXT, json.dumps({"id": id, "action": "ping"}).encode())


async def heard(reader: asyncio.StreamReader) -> tuple[int, Any]:
    """The next of what comes but for events: its opcode, and the reply, the code of a close, or the payload."""
    while True:
        first, size = await reader.readexactly(2)
        if size == 126:
            size = int.from_bytes(await reader.readexactly(2), "big")
        opcode, payload = first & 0xF, await reader.readexactly(size)
        if opcode == CLOSE:
            return opcode, int.from_bytes(payload[:2], "big")
        if opcode != TEXT:
            return opcode, payload
        if "reply_to" in (message := json.loads(payload)):
            return opcode, message


async def answered(reader: asyncio.StreamReader) -> list[tuple[Any, bool]]:
    """Which requests are answered, and how; and then the code of the close."""
    found: list[tuple[Any, bool]] = []
    while (one := await heard(reader))[0] == TEXT:
        found.append((one[1]["reply_to"], one[1]["ok"]))
    return [*found, one]


ALL_THAT_WAIT = [(number, True) for number in range(MAX_ASKED)]


@asynccontextmanager
async def asked_and_held() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, asyncio.Event]]:
    """A socket that is let in by the event and not before, with as many requests as may wait; ten may come at once."""
    let_in = asyncio.Event()

    async def admit(connection: Connection) -> int:
        await let_in.wait()
        connection.user_id = ids.new_id()
        return connection.cut()

    async with asyncio.timeout(WAIT_SECONDS), opened(admit, due=Turn().add) as (_, reader, writer):
        writer.write(b"".join(map(request, range(MAX_ASKED - 1))) + frame(PING))
        assert await heard(reader) == (PONG, b"")
        await asyncio.sleep(11 / PER_SECOND)  # all have come, and from then on so many more are allowed, or still more
        writer.write(request(MAX_ASKED - 1))
        yield reader, writer, let_in


def test_one_more_request_than_may_wait_is_refused_and_those_that_wait_are_answered(stack: Stack) -> None:
    more = range(MAX_ASKED, MAX_ASKED + 3)

    async def told() -> None:
        async with asked_and_held() as (reader, writer, let_in):
            writer.write(b"".join(map(request, more)))
            refused = [(await heard(reader))[1] for _ in more]
            assert [reply["reply_to"] for reply in refused] == list(more)
            assert {(reply["error"]["status"], reply["error"]["retry_after"]) for reply in refused} == {(429, 1)}
            let_in.set()
            for number in range(MAX_ASKED):
                reply = (await heard(reader))[1]
                assert (reply["reply_to"], reply["ok"]) == (number, True)

    uvloop.run(told())


AT_FAULT = {
    "no request": (4400, frame(TEXT, b"nonsense")),
    "binary for text": (4400, frame(BINARY, b"{}")),
    "not UTF-8": (1007, frame(TEXT, b'{"id":"\xff","action":"ping"}')),
    "too large": (4413, frame(TEXT, b"x" * (MAX_FRAME + 1))),
}


@pytest.mark.parametrize("case", AT_FAULT)
def test_what_was_asked_before_a_frame_at_fault_is_answered_and_nothing_after_it(stack: Stack, case: str) -> None:
    code, sent = AT_FAULT[case]

    async def told() -> list[tuple[Any, Any]]:
        async with asked_and_held() as (reader, writer, let_in):
            writer.write(sent + request("after") + frame(PING))
            assert await heard(reader) == (PONG, b"")  # it is there until they are answered
            let_in.set()
            return await answered(reader)

    assert uvloop.run(told()) == [*ALL_THAT_WAIT, (CLOSE, code)]


# What a client can send to one who doesn't read is what the kernel keeps: 36 MiB at most as Linux comes, mostly 4.
KEPT_BY_KERNEL = 64 << 20


def test_behind_a_frame_larger_than_is_read_nothing_is_taken_until_what_was_asked_is_answered(stack: Stack) -> None:
    async def told() -> list[tuple[Any, Any]]:
        sent = 0

        async def send_on(writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            writer.write(b"\x81\xff" + (1 << 40).to_bytes(8, "big") + bytes(4))
            while sent < 4 * KEPT_BY_KERNEL:
                writer.write(bytes(MAX_READ))
                sent += MAX_READ
                await writer.drain()

        async with asked_and_held() as (reader, writer, let_in):
            sending = asyncio.create_task(send_on(writer))
            await asyncio.wait([sending], timeout=1)
            assert MAX_READ < sent < KEPT_BY_KERNEL
            let_in.set()
            found = await answered(reader)
            sending.cancel()
            writer.write_eof()
            assert await reader.read() == b""  # its end was read, and it isn't reset
            return found

    assert uvloop.run(told()) == [*ALL_THAT_WAIT, (CLOSE, 4413)]


NOT_WAITED_FOR = {
    "too fast": (4400, request("after") * 2 * int(BURST)),
    "a continuation of nothing": (1002, frame(CONTINUATION)),
    "a new one within one in fragments": (1002, frame(TEXT, b"{", fin=False) + request("after")),
    "a reserved bit": (1002, frame(PING, reserved=4)),
    "unmasked": (1002, frame(PING, masked=False)),
}


@pytest.mark.parametrize("case", NOT_WAITED_FOR)
def test_who_goes_on_too_fast_or_breaks_the_protocol_after_a_frame_at_fault_is_not_waited_for(case: str) -> None:
    code, sent = NOT_WAITED_FOR[case]

    async def told() -> tuple[int, Any]:
        async with asked_and_held() as (reader, writer, _):
            writer.write(frame(TEXT, b"nonsense") + sent)
            return await heard(reader)

    assert uvloop.run(told()) == (CLOSE, code)


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
