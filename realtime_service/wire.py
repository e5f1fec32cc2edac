"""A socket as RFC 6455 has it: frames become messages, what is written waits for the turn's end, and it is closed."""

import asyncio
import time
from collections.abc import Callable
from typing import Final, NamedTuple, Self, cast

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from realtime_service.frames import Codec
from realtime_service.intake import Intake

MAX_FRAME: Final = 64 * 1024
MAX_UNSENT: Final = 1 << 20
PER_SECOND: Final = 20.0
BURST: Final = 40.0
CLOSE_SECONDS: Final = 2.0
# So much is written at a time where it is a lot, and the rest when the client has taken that.
TOGETHER: Final = 256 * 1024
TAKEN_SECONDS: Final = 30.0
_DATA: Final[dict[Codec, WSMsgType]] = {"json": WSMsgType.TEXT, "msgpack": WSMsgType.BINARY}


class Ending(NamedTuple):
    """Why a socket is closed, once all that was asked before has been answered."""

    code: int
    reason: str


class Wire(WSListener):
    """A socket from its upgrade on. Who makes it says in `_take` what becomes of a message.

    `leave` is told when it goes, and `due` when it is to be flushed at the end of the turn.
    """

    __slots__ = (
        "_allowance",
        "_allowed_at",
        "_closing",
        "_due",
        "_ending",
        "_in_parts",
        "_leave",
        "_parts",
        "_stream",
        "_transport",
        "_unflushed",
        "_unwritten",
        "coming",
        "format",
        "gone",
        "heard_at",
    )

    def __init__(self, format: Codec, leave: Callable[[Self], None], due: Callable[[Self], None]):
        self.format: Codec = format
        self._leave = leave
        self._due = due
        self.heard_at = time.monotonic()
        self.gone = asyncio.Event()
        self._transport: WSTransport | None = None
        # What its frames go to as they are: picows would copy each, and build its head anew.
        self._stream: asyncio.Transport | None = None
        self._unwritten: list[bytes] = []
        self._unflushed = 0
        # Bytes of a frame that isn't whole, whatever it is.
        self.coming = 0
        self._parts = bytearray()
        self._in_parts = False
        self._allowance = BURST
        self._allowed_at = self.heard_at
        # Once it is to end, what comes is passed over.
        self._ending: Ending | None = None
        self._closing = False

    @property
    def is_open(self) -> bool:
        """Whether it can be written to."""
        transport = self._transport
        return not self._closing and transport is not None and not transport.is_close_frame_sent

    def on_ws_connected(self, transport: WSTransport) -> None:
        """It is there."""
        self._transport = transport
        transport.request.headers.clear()  # read by now, and kept by picows as long as the socket is
        self._stream = transport.underlying_transport
        self._stream.set_write_buffer_limits(high=MAX_UNSENT)
        self._stream.set_protocol(Intake(self, cast("asyncio.BufferedProtocol", self._stream.get_protocol())))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """It is gone."""
        self._closing = True
        self._transport = self._stream = None
        self.gone.set()
        self._leave(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take a frame in; one that nobody could reply to ends the socket."""
        self.heard_at = time.monotonic()
        self.coming = frame.tail_size
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self.close(1002, "no extension was agreed on")
            return
        if frame.msg_type == WSMsgType.CLOSE:
            self._answer_close(transport, frame)
            return
        if transport.is_close_frame_sent:
            self._closing = True  # by the parser, for what follows this frame: nothing may be sent after it
        if self._closing or not self._within_rate():
            return
        if frame.msg_type == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
            return
        if frame.msg_type == WSMsgType.PONG:
            return
        if (frame.msg_type == WSMsgType.CONTINUATION) != self._in_parts:
            self.close(1002, "fragments out of order")
            return
        self._in_parts = not frame.fin
        if self._ending is not None:
            return
        if len(self._parts) + frame.payload_size > MAX_FRAME:
            self.end(4413, "frame too large")
            return
        if frame.msg_type not in (WSMsgType.CONTINUATION, _DATA[self.format]):
            self.end(4400, "bad frame")
            return
        self._parts += frame.get_payload_as_memoryview()
        if frame.fin:
            body, self._parts = bytes(self._parts), bytearray()
            self._take(body)

    def _answer_close(self, transport: WSTransport, frame: WSFrame) -> None:
        """Give the client's close code back; 1002 for one that may not be sent, which the parser lets through."""
        if not self._closing:
            self.flush()
            self._closing = True
            code = cast("int", frame.get_close_code()) if frame.payload_size else 1000
            transport.send_close(cast("WSCloseCode", code if 1000 <= code < 5000 and code != 1006 else 1002))
        transport.disconnect()

    def pause_writing(self) -> None:
        """More than MAX_UNSENT waits: it reads too slowly. Closed later, as a write to it is under way."""
        self.close_soon(1013, "slow reader")

    def resume_writing(self) -> None:
        """It has drained."""

    def _take(self, body: bytes) -> None:
        """Take a message."""
        raise NotImplementedError

    def end(self, code: int, reason: str) -> None:
        """Close it as what came from the client asks for."""
        self.close(code, reason)

    def read_no_more(self) -> None:
        """Have the client wait with what it still sends, until this is closed."""
        if self.is_open and self._stream is not None:
            self._stream.pause_reading()

    def close(self, code: int, reason: str) -> None:
        """Close it, with what is unwritten sent before.

        The connection is given up when the client answers, or after two seconds: giving it up at once, with frames of
        the client's still unread, would reset it, and the client would never see the code.
        """
        if self._closing or self._transport is None or self._stream is None:
            return
        self.flush()
        self._closing = True
        self._stream.resume_reading()
        self._transport.send_close(cast("WSCloseCode", code), reason.encode())
        asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._give_up)
        self._leave(self)

    def close_soon(self, code: int, reason: str) -> None:
        """Close it once the reply that is being made has been written."""
        asyncio.get_running_loop().call_soon(self.close, code, reason)

    def _give_up(self) -> None:
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    def ping(self) -> None:
        """Ask whether it is there."""
        if self._transport is not None and not self._closing:
            self._transport.send_ping()

    def _within_rate(self) -> bool:
        self._allowance = min(BURST, self._allowance + (self.heard_at - self._allowed_at) * PER_SECOND)
        self._allowed_at = self.heard_at
        if self._allowance < 1:
            self.close(*(self._ending or (4429, "too fast")))
            return False
        self._allowance -= 1
        return True

    def _write(self, data: bytes) -> None:
        if self._closing:
            return
        if not self._unwritten:
            self._due(self)
        self._unwritten.append(data)
        self._unflushed += len(data)

    async def _taken(self) -> None:
        """Write what waits, and wait until the client has taken most of it; one that doesn't is cut off."""
        self.flush()
        until = time.monotonic() + TAKEN_SECONDS
        while self._stream is not None and self._stream.get_write_buffer_size() > TOGETHER:
            if time.monotonic() > until:
                self.close(1013, "slow reader")
                return
            await asyncio.sleep(0.02)

    def flush(self) -> None:
        """Write what waits; nothing after a close frame (RFC 6455, 5.5.1), as the parser sends one by itself."""
        unwritten, stream, transport = self._unwritten, self._stream, self._transport
        if not unwritten or stream is None or transport is None:
            return
        data = unwritten[0] if len(unwritten) == 1 else b"".join(unwritten)
        unwritten.clear()
        self._unflushed = 0
        if transport.is_close_frame_sent:
            self._closing = True
        else:
            stream.write(data)
