"""The last frame of a socket is a close (RFC 6455, 5.5.1), and what was written before it comes before it."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import picows
import pytest

from realtime_service.connection import MAX_HELD, Admit, Connection, Tell
from realtime_service.frames import Event
from realtime_service.wire import BURST
from tests.live.test_protocol import CLOSE, PING, TEXT, frame

HEAD = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
GOODBYE = frame(CLOSE, (1000).to_bytes(2, "big"))


async def nobody(_: Connection) -> int:
    """Let nobody in."""
    return 0


@asynccontextmanager
async def opened(
    admit: Admit = nobody, leave: Tell = lambda _: None, due: Tell = lambda _: None
) -> AsyncIterator[tuple[Connection, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A socket of the service's that nobody flushes but by `due`, and a client's end of it."""
    subscriptions: Any = None
    connection = Connection("json", admit, leave, due, subscriptions)
    server = await picows.ws_create_server(
        lambda _: connection, "127.0.0.1", 0, max_frame_size=sys.maxsize, enable_auto_pong=False
    )
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
    try:
        writer.write(HEAD)
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        yield connection, reader, writer
    finally:
        writer.close()
        server.close()


def frames_in(data: bytes) -> list[tuple[int, bytes]]:
    """The opcodes and payloads of a server's frames, each short; of the last there may be more to come."""
    found: list[tuple[int, bytes]] = []
    while len(data) > 1:
        size = data[1]
        assert size < 126
        found.append((data[0] & 0xF, data[2 : 2 + size]))
        data = data[2 + size :]
    return found


async def tell_on(connection: Connection) -> None:
    while not connection.gone.is_set():
        connection.resync()
        connection.flush()
        await asyncio.sleep(0.0005)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(GOODBYE, 1000, id="answered"),
        pytest.param(frame(0x3), 1002, id="by the parser"),
        pytest.param(frame(PING) * (int(BURST) + 1), 4429, id="by us"),
    ],
)
def test_whatever_it_is_told_nothing_comes_after_a_close(sent: bytes, code: int) -> None:
    async def told() -> list[tuple[int, bytes]]:
        async with opened() as (connection, reader, writer), asyncio.timeout(30):
            telling = asyncio.create_task(tell_on(connection))
            data = await reader.readexactly(2)
            writer.write(sent)
            while more := await reader.read(1 << 16):
                data += more
                if frames_in(data)[-1][0] == CLOSE and code == 4429:
                    writer.write(GOODBYE)
            await telling
            return frames_in(data)

    found = asyncio.run(told())
    assert [opcode for opcode, _ in found].index(CLOSE) == len(found) - 1
    assert int.from_bytes(found[-1][1][:2], "big") == code


def test_what_waits_is_written_before_the_answer_to_a_close() -> None:
    async def told() -> list[int]:
        async with opened() as (connection, reader, writer), asyncio.timeout(30):
            connection.resync()
            writer.write(GOODBYE)
            data = await reader.read(-1)
            connection.flush()
            return [opcode for opcode, _ in frames_in(data)]

    assert asyncio.run(told()) == [TEXT, CLOSE]


def test_more_than_an_inbox_keeps_does_not_wait_for_what_comes_before_it() -> None:
    async def told(events: int) -> list[tuple[int, bytes]]:
        async with opened() as (connection, reader, writer), asyncio.timeout(30):
            connection.cut()
            for seq in range(1, events + 1):
                connection.deliver(Event(b"{}", seq))
            await asyncio.sleep(0)
            writer.write(GOODBYE)
            return frames_in(await reader.read(-1))

    assert asyncio.run(told(MAX_HELD)) == [(CLOSE, (1000).to_bytes(2, "big"))]
    assert asyncio.run(told(MAX_HELD + 1)) == [(CLOSE, (1013).to_bytes(2, "big") + b"slow reader")]
