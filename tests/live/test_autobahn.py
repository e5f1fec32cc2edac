"""Autobahn's cases for servers (https://github.com/crossbario/autobahn-testsuite), as `kosoku` runs them in Python 3.

They want all that they send given back, and none of it is a request of ours. So a `Connection` sends back here, in the
kind of frame it came in, what it would close with 4400: frames, fragments, UTF-8, closes and writing are its own.
"""

import sys
from typing import Any

import kosoku
import picows
import uvloop
from picows import WSFrame, WSMsgType, WSTransport

from realtime_service import frames
from realtime_service.connection import Connection
from realtime_service.server import READ_BUFFER
from realtime_service.turn import Turn

# Framing, pings, reserved bits, opcodes, fragments, UTF-8, closes, and auto-fragmentation. Of the others, 9 is of
# messages larger than ours but for those here, and 12 and 13 are of compression, which is declined.
CASES = [f"{group}.*" for group in (1, 2, 3, 4, 5, 6, 7, 10)]
# A message of 64 KiB in one frame, text and binary; and up to a thousand small ones, each answered before the next.
CASES += ["9.1.1", "9.2.1", "9.7.*", "9.8.*"]
# Two closes in one segment: picows reads a frame ahead, and answers 1002 (docs/decisions/live.md).
NOT_OURS = ["7.1.2"]


class Echo(Connection):
    """Sends back what it takes and isn't a request."""

    def __init__(self, turn: Turn) -> None:
        async def admit(_: Connection) -> int:
            return 0

        unused: Any = None
        super().__init__("json", admit, lambda _: None, turn.add, unused)
        self._body = b""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if not self._in_parts and frame.msg_type in (WSMsgType.TEXT, WSMsgType.BINARY):
            self.format = "json" if frame.msg_type == WSMsgType.TEXT else "msgpack"
        super().on_ws_frame(transport, frame)

    def _within_rate(self) -> bool:
        return True

    def _take(self, body: bytes) -> None:
        self._body = body
        super()._take(body)

    def close(self, code: int, reason: str) -> None:
        if code == 4400:
            self._write(frames.frame(self._body, self.format))
        else:
            super().close(code, reason)


async def _run() -> list[str]:
    turn = Turn()
    server = await picows.ws_create_server(
        lambda _: Echo(turn),
        "127.0.0.1",
        0,
        max_frame_size=sys.maxsize,
        read_buffer_init_size=READ_BUFFER,
        enable_auto_pong=False,
    )
    port = server.sockets[0].getsockname()[1]
    try:
        results = await kosoku.run_fuzzingclient(f"ws://127.0.0.1:{port}", CASES, NOT_OURS)
    finally:
        server.close()
    return [result.case_id for result in results]


def test_all_cases_pass() -> None:
    passed = uvloop.run(_run())
    assert len(passed) == 260
