"""One socket: who it is, what it asks, what waits to be written to it, and why it is closed."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from realtime_service import inbox, requests
from realtime_service.frames import Codec, Event, encode
from realtime_service.intake import Intake
from realtime_service.protocol import Resumed
from shared.kernel import cache, clock, codec
from shared.kernel.problems import Unavailable, Unreadable
from shared.live.publish import KEPT_EVENTS

if TYPE_CHECKING:
    from realtime_service.topic import Topic
    from realtime_service.topics import Topics

MAX_FRAME: Final = 64 * 1024
MAX_UNSENT: Final = 1 << 20
MAX_ID: Final = 64
PER_SECOND: Final = 20.0
BURST: Final = 40.0
# So many requests may wait for one to be answered, and so many events for those before them: as many as are kept.
MAX_ASKED: Final = int(BURST)
MAX_HELD: Final = KEPT_EVENTS
CLOSE_SECONDS: Final = 2.0
# What comes live waits so long for a `resume`: a client that sends it first hears all in order.
RESUME_SECONDS: Final = 0.25
# What was missed is written so much at a time, and the rest when the client has taken that.
TOGETHER: Final = 256 * 1024
TAKEN_SECONDS: Final = 30.0
_DATA: Final[dict[Codec, WSMsgType]] = {"json": WSMsgType.TEXT, "msgpack": WSMsgType.BINARY}

# Takes a socket in, and gives the cut that its first catch_up mends; 0 for one that is refused.
Admit = Callable[["Connection"], Awaitable[int]]
Tell = Callable[["Connection"], None]
Missed = Callable[[int], Awaitable[list[Event] | inbox.Gap]]
_log: Final = logging.getLogger("live")


class Ending(NamedTuple):
    """Why a socket is closed, once all that was asked before has been answered."""

    code: int
    reason: str


class Connection(WSListener):
    """A socket from its upgrade on. `admit` authenticates it and takes it into the hub, or closes it.

    `leave` is told when it goes, and `due` when it is to be flushed at the end of the turn.
    """

    __slots__ = (
        "_admit",
        "_admitted",
        "_allowance",
        "_allowed_at",
        "_catching_up",
        "_closing",
        "_cut",
        "_due",
        "_ending",
        "_in_parts",
        "_leave",
        "_parts",
        "_requests",
        "_sent",
        "_stream",
        "_transport",
        "_unflushed",
        "_unwritten",
        "_waiting",
        "began_at",
        "coming",
        "connected_at",
        "cuts",
        "format",
        "gone",
        "heard_at",
        "last_seq",
        "session_id",
        "subscriptions",
        "topics",
        "user_id",
    )

    def __init__(self, format: Codec, admit: Admit, leave: Tell, due: Tell, subscriptions: "Topics"):
        self.format: Codec = format
        self.subscriptions = subscriptions
        # Those it subscribes to, by their names.
        self.topics: dict[str, Topic] = {}
        self.user_id = 0
        self.session_id = 0
        self.connected_at = self.heard_at = time.monotonic()
        self.began_at = self.last_seq = 0
        self._admit = admit
        self._leave = leave
        self._due = due
        self._transport: WSTransport | None = None
        # What its frames go to as they are: picows would copy each, and build its head anew.
        self._stream: asyncio.WriteTransport | None = None
        self._unwritten: list[bytes] = []
        self._unflushed = 0
        # The greatest seq that was sent; 0 before.
        self._sent = 0
        # Events wait here while what came before them is still being read.
        self._waiting: list[Event] | None = None
        self._cut = False
        self.cuts = 0
        self._catching_up = asyncio.Lock()
        self.gone = asyncio.Event()
        # Bytes of a frame that isn't whole, whatever it is.
        self.coming = 0
        self._parts = bytearray()
        self._in_parts = False
        self._allowance = BURST
        self._allowed_at = self.heard_at
        self._closing = False
        self._admitted: asyncio.Task[None] | None = None
        # What is asked, as it came: read, it may be sixty times as large. Nothing is taken behind an ending.
        self._requests: asyncio.Queue[bytes | Ending] = asyncio.Queue()
        self._ending: Ending | None = None

    @property
    def is_open(self) -> bool:
        """Whether it can be written to."""
        transport = self._transport
        return not self._closing and transport is not None and not transport.is_close_frame_sent

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Authenticate first; frames that come before are answered after."""
        self._transport = transport
        transport.request.headers.clear()  # read by now, and kept by picows as long as the socket is
        self._stream = transport.underlying_transport
        self._stream.set_write_buffer_limits(high=MAX_UNSENT)
        self._stream.set_protocol(Intake(self, cast("asyncio.BufferedProtocol", self._stream.get_protocol())))
        self._admitted = asyncio.get_running_loop().create_task(self._serve())

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """It is gone."""
        self._closing = True
        self._transport = self._stream = None
        self.gone.set()
        self._leave(self)
        if self._admitted is not None:
            self._admitted.cancel()
            self._admitted = None  # it has this in its frames: what refers to itself waits for the garbage collector

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
        if frame.msg_type == WSMsgType.PONG or self._ending is not None:
            return
        if len(self._parts) + frame.payload_size > MAX_FRAME:
            self.end(4413, "frame too large")
            return
        if (frame.msg_type == WSMsgType.CONTINUATION) != self._in_parts:
            self.close(1002, "fragments out of order")
            return
        if not self._in_parts and frame.msg_type != _DATA[self.format]:
            self.end(4400, "bad frame")
            return
        self._in_parts = not frame.fin
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

    def deliver(self, event: Event) -> None:
        """Send an event, once and in order."""
        if self._waiting is not None and event.seq is not None:
            if len(self._waiting) < MAX_HELD:
                self._waiting.append(event)
            else:
                self.close_soon(1013, "slow reader")  # the hub goes through its user's sockets
        else:
            self._send(event)

    def _send(self, event: Event) -> None:
        if event.seq is not None:
            if event.seq <= self.last_seq:
                return
            self.last_seq = self._sent = event.seq
        self._write(event.frame(self.format))

    def resync(self) -> None:
        """Tell the client to read anew: something may have been missed."""
        self._write(encode({"event": "resync", "at": clock.now_ms(), "data": {}}, self.format))

    def close(self, code: int, reason: str) -> None:
        """Close it, with what is unwritten sent before.

        The connection is given up when the client answers, or after two seconds: giving it up at once, with frames of
        the client's still unread, would reset it, and the client would never see the code.
        """
        if self._closing or self._transport is None:
            return
        self.flush()
        self._closing = True
        self._transport.send_close(cast("WSCloseCode", code), reason.encode())
        asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._give_up)
        self._leave(self)

    def close_soon(self, code: int, reason: str) -> None:
        """Close it once the reply that is being made has been written."""
        asyncio.get_running_loop().call_soon(self.close, code, reason)

    def end(self, code: int, reason: str) -> None:
        """Close it once all that was asked by now has been answered; what comes meanwhile is passed over."""
        if self._ending is None:
            self._ending = Ending(code, reason)
            self._parts = bytearray()
            self._requests.put_nowait(self._ending)

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

    def _take(self, body: bytes) -> None:
        if self._requests.qsize() < MAX_ASKED:
            self._requests.put_nowait(body)
        elif isinstance(request := self._read(body), Ending):
            self.end(*request)
        else:
            self._write(requests.refuse(self, request))

    def _read(self, body: bytes) -> dict[str, Any] | Ending:
        """The request; or how a frame ends the socket that nobody could reply to."""
        try:
            request = codec.unpack(body, self.format)
        except Unreadable:
            if self.format == "json" and not _is_utf8(body):
                return Ending(1007, "not UTF-8")
            request = None
        if isinstance(request, dict) and _is_id(cast("dict[Any, Any]", request).get("id")):
            return cast("dict[str, Any]", request)
        return Ending(4400, "bad frame")

    async def _serve(self) -> None:
        try:
            cut = await self._admit(self)
            if cut:
                await self._begin(cut)
                while self.is_open:
                    await self._answer(await self._requests.get())
        except Unavailable:
            self.close(1013, "try again later")
        except Exception:
            _log.exception("a socket failed")
            self.close(1011, "internal error")

    async def _begin(self, cut: int) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RESUME_SECONDS):
                first = await self._requests.get()
            await self._answer(first)
        await self.catch_up(lambda seq: inbox.newer(self.user_id, seq), mend=cut)

    async def _answer(self, asked: bytes | Ending) -> None:
        request = asked if isinstance(asked, Ending) else self._read(asked)
        if isinstance(request, Ending):
            self.close(*request)
        else:
            self._write(await requests.answer(self, request))

    async def resume(self, after: int) -> Resumed:
        """Send what was missed since `after`; answers from where the next may go on, and whether that was all."""
        # Once it has caught up, what was sent here is missed no more, whatever it asks for.
        since = after if self.began_at else max(after, self.last_seq)
        whole = await self.catch_up(lambda seq: inbox.since(self.user_id, seq), since)
        # From where the next one may go on: past all that was sent, and after a resync past what it read before this.
        return Resumed(max(after, self._sent) if whole else self.last_seq, resync=not whole)

    def cut(self) -> int:
        """From here on something may be missed: events wait until `catch_up` mends this cut, whose number is given."""
        self._cut = True
        self.cuts += 1
        self._hold()
        return self.cuts

    async def catch_up(self, missed: Missed, after: int | None = None, *, mend: int = 0) -> bool:
        """Send what `missed` gives past `after`, or past what was sent last; `resync` for a gap. Whether it was whole.

        What comes in meanwhile waits, so that it is neither sent twice nor before what it follows. One at a time. What
        is of before this socket began is sent once; what is of after it has been sent, or is as it comes.
        """
        async with self._catching_up:
            self._hold()
            if mend == self.cuts:
                self._cut = False  # and not after the read: it may be cut again meanwhile
            try:
                found = await missed(self.last_seq if after is None else after)
            except (cache.CacheUnavailable, cache.ReplyError):
                found = inbox.Gap(0)
            except BaseException:
                self._release()
                raise
            if isinstance(found, inbox.Gap):
                self.resync()
                self._release()
                if after is None:
                    # What was before is read anew now: it is missed no more when this is asked again.
                    self.last_seq = max(self.last_seq, found.upto)
                return False
            for event in found:
                if event.seq is not None and event.seq <= self.began_at:
                    # Something newer may have been sent before: the next resume goes on from there.
                    self._sent = max(self._sent, event.seq)
                    self._write(event.frame(self.format))
                else:
                    self._send(event)
                if self._unflushed > TOGETHER:
                    await self._taken()
            if after is not None:
                self.began_at = 0
            self._release()
            return True

    def _hold(self) -> None:
        if self._waiting is None:
            self._waiting = []

    def _release(self) -> None:
        if not self._cut:
            came, self._waiting = self._waiting, None
            for event in came or ():
                self._send(event)

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


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_id(id: Any) -> bool:
    return isinstance(id, (str, int)) and not isinstance(id, bool) and len(str(id)) <= MAX_ID
