"""One of a user's sockets: who it is, what it asks, and which events it is sent."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, cast

from picows import WSTransport

from realtime_service import inbox, requests
from realtime_service.frames import Codec, Event, encode
from realtime_service.protocol import Resumed
from realtime_service.wire import BURST, TOGETHER, Ending, Wire
from shared.kernel import cache, clock, codec
from shared.kernel.problems import Unavailable, Unreadable
from shared.live.publish import KEPT_EVENTS

if TYPE_CHECKING:
    from realtime_service.topic import Topic
    from realtime_service.topics import Topics

MAX_ID: Final = 64
# So many requests may wait for one to be answered, and so many events for those before them: as many as are kept.
MAX_ASKED: Final = int(BURST)
MAX_HELD: Final = KEPT_EVENTS
# What comes live waits so long for a `resume`: a client that sends it first hears all in order.
RESUME_SECONDS: Final = 0.25

# Takes a socket in, and gives the cut that its first catch_up mends; 0 for one that is refused.
Admit = Callable[["Connection"], Awaitable[int]]
Tell = Callable[["Connection"], None]
Missed = Callable[[int], Awaitable[list[Event] | inbox.Gap]]
_log: Final = logging.getLogger("live")


class Connection(Wire):
    """A socket of a user's. `admit` authenticates it and takes it into the hub, or closes it; the rest is `Wire`'s."""

    __slots__ = (
        "_admit",
        "_admitted",
        "_catching_up",
        "_cut",
        "_requests",
        "_sent",
        "_waiting",
        "began_at",
        "connected_at",
        "cuts",
        "last_seq",
        "session_id",
        "subscriptions",
        "topics",
        "user_id",
    )

    def __init__(self, format: Codec, admit: Admit, leave: Tell, due: Tell, subscriptions: "Topics"):
        super().__init__(format, leave, due)
        self.subscriptions = subscriptions
        # Those it subscribes to, by their names.
        self.topics: dict[str, Topic] = {}
        self.user_id = 0
        self.session_id = 0
        self.connected_at = time.monotonic()
        self.began_at = self.last_seq = 0
        self._admit = admit
        # The greatest seq that was sent; 0 before.
        self._sent = 0
        # Events wait here while what came before them is still being read.
        self._waiting: list[Event] | None = None
        self._cut = False
        self.cuts = 0
        self._catching_up = asyncio.Lock()
        self._admitted: asyncio.Task[None] | None = None
        # What is asked, as it came: read, it may be sixty times as large. Nothing is taken behind an ending.
        self._requests: asyncio.Queue[bytes | Ending] = asyncio.Queue()

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Authenticate first; frames that come before are answered after."""
        super().on_ws_connected(transport)
        self._admitted = asyncio.get_running_loop().create_task(self._serve())

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """It is gone."""
        super().on_ws_disconnected(transport)
        if self._admitted is not None:
            self._admitted.cancel()
            self._admitted = None  # it has this in its frames: what refers to itself waits for the garbage collector

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

    def end(self, code: int, reason: str) -> None:
        """Close it once all that was asked by now has been answered; what comes meanwhile is passed over."""
        if self._ending is None:
            self._ending = Ending(code, reason)
            self._parts = bytearray()
            self._requests.put_nowait(self._ending)

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
            seq: int | None = self.last_seq if after is None else after
            try:
                while seq is not None:
                    found = await missed(seq)
                    if isinstance(found, inbox.Gap):
                        return self._tell_gap(found)
                    seq = await self._send_missed(found)
            except (cache.CacheUnavailable, cache.ReplyError):
                return self._tell_gap(inbox.Gap(0))
            finally:
                self._release()
            if after is not None:
                self.began_at = 0
            return True

    async def _send_missed(self, found: list[Event]) -> int | None:
        """Send what was missed; the seq past which there may be more, or what has changed before it could be sent."""
        for event in found:
            assert event.seq is not None
            if event.seq <= self.began_at:
                # Something newer may have been sent before: the next resume goes on from there.
                self._sent = max(self._sent, event.seq)
                self._write(event.frame(self.format))
            else:
                self._send(event)
            if self._unflushed > TOGETHER:
                await self._taken()
                return event.seq
        return found[-1].seq if len(found) == inbox.PAGE else None

    def _tell_gap(self, gap: inbox.Gap) -> bool:
        self.resync()
        # What was before is read anew now: it is missed no more when this is asked again, nor told where it waits.
        self.last_seq = max(self.last_seq, gap.upto)
        return False

    def _hold(self) -> None:
        if self._waiting is None:
            self._waiting = []

    def _release(self) -> None:
        if not self._cut:
            came, self._waiting = self._waiting, None
            for event in came or ():
                self._send(event)


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_id(id: Any) -> bool:
    return isinstance(id, (str, int)) and not isinstance(id, bool) and len(str(id)) <= MAX_ID
