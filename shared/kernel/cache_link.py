"""Redis for `async def` code: one connection an event loop, shared by all requests.

Commands of one event-loop turn are written together. Replies belong to callers by their order alone, so whatever could
shift it ends the connection: a reply that comes late, one that nobody waits for, one that can't be read.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import hiredis

from shared.kernel import ledger
from shared.kernel.cache_wire import (
    CONNECT_SECONDS,
    Address,
    CacheUnavailable,
    Command,
    check_hello,
    pack,
    tune,
    unknown_scripts,
    with_loads,
)

REPLY_SECONDS: Final = 1.0
MAX_WAITING: Final = 10_000
MAX_UNSENT_BYTES: Final = 16 << 20
_BACKOFF: Final = (0.05, 0.1, 0.2, 0.5, 1.0)
_log: Final = logging.getLogger("redis")


class _Batch:
    """The commands of one call, and what has been answered of them."""

    __slots__ = ("due", "future", "replies", "wanted")

    def __init__(self, future: "asyncio.Future[list[Any]]", wanted: int, due: float):
        self.future = future
        self.wanted = wanted
        self.replies: list[Any] = []
        self.due = due


class Link(asyncio.Protocol):
    """One connection: what is to be written this turn, and who waits for replies, in order."""

    def __init__(self) -> None:
        self.closed = False
        self.timed_out = False
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self._waiting: deque[_Batch] = deque()
        self._outgoing: list[bytes] = []
        self._transport: Any = None
        self._watch: asyncio.TimerHandle | None = None
        self._full = False

    def connection_made(self, transport: Any) -> None:
        """It is open."""
        self._transport = transport
        transport.set_write_buffer_limits(high=MAX_UNSENT_BYTES)
        tune(transport.get_extra_info("socket"))

    def pause_writing(self) -> None:
        """Redis takes nothing any more."""
        self._full = True

    def resume_writing(self) -> None:
        """It takes commands again."""
        self._full = False

    def send(self, commands: Sequence[Command]) -> "asyncio.Future[list[Any]]":
        """The replies to come. Raises CacheUnavailable, and TypeError for a part that is no str, bytes or int."""
        if self.closed or self._full or len(self._waiting) >= MAX_WAITING:
            raise CacheUnavailable
        # Packed before anything is queued: a command that can't be must not leave a place for a reply.
        packed = [pack(command) for command in commands]
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing += packed
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        self._waiting.append(_Batch(future, len(commands), self._loop.time() + REPLY_SECONDS))
        if self._watch is None:
            self._watch = self._loop.call_later(REPLY_SECONDS, self._check_due)
        return future

    def _flush(self) -> None:
        outgoing, self._outgoing = self._outgoing, []
        if not self.closed:
            self._transport.write(b"".join(outgoing))

    def data_received(self, data: bytes) -> None:
        """Hand replies to those who wait, in order."""
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                batch = self._waiting[0]
                batch.replies.append(reply)
                if len(batch.replies) == batch.wanted:
                    self._waiting.popleft()
                    # A caller that gave up has cancelled its future; its replies are taken all the same, in order.
                    if not batch.future.done():
                        batch.future.set_result(batch.replies)
        except (hiredis.ProtocolError, IndexError):
            self.abort()

    def _check_due(self) -> None:
        self._watch = None
        if not self._waiting or self.closed:
            return
        left = self._waiting[0].due - self._loop.time()
        if left <= 0:
            self.timed_out = True
            self.abort()
        else:
            self._watch = self._loop.call_later(left, self._check_due)

    def abort(self) -> None:
        """End it now; who still waits gets CacheUnavailable."""
        if self._transport is not None:
            self._transport.abort()
        self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended."""
        self.closed = True
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        waiting, self._waiting = self._waiting, deque()
        for batch in waiting:
            if not batch.future.done():
                batch.future.set_exception(CacheUnavailable())
                batch.future.exception()  # its caller may have gone; that is no fault to log


class Client:
    """The client of one event loop: its link, made when first asked for and again when it was lost.

    After a failure nobody waits for the next attempt: it goes on beside requests that fail at once.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._loop = asyncio.get_running_loop()
        self._link: Link | None = None
        self._attempt: asyncio.Task[Link] | None = None
        self._failures = 0
        self._retry_at = 0.0

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """The replies. Raises CacheUnavailable, ReplyError."""
        link = self._link
        if link is None or link.closed:
            link = await self._connected()
        replies = await link.send(commands)
        if unknown := unknown_scripts(replies):
            again = await link.send(with_loads([commands[index] for index in unknown]))
            ledger.record("redis", 0.0, statements=len(again))  # its time is in the call's
            if unknown_scripts(again):
                raise CacheUnavailable
            for index, reply in zip(unknown, again[1::2], strict=True):
                replies[index] = reply
        return replies

    def close(self) -> None:
        """End the connection."""
        if self._attempt is not None:
            self._attempt.cancel()
        if self._link is not None:
            self._link.abort()

    async def _connected(self) -> Link:
        if self._link is not None and self._link.timed_out:
            self._link = None
            self._failed("no answer in time")
            self._retry_at = self._loop.time()
        if self._attempt is None:
            if self._loop.time() < self._retry_at:
                raise CacheUnavailable
            self._attempt = self._loop.create_task(self._open())
            self._attempt.add_done_callback(self._ended)
        if self._failures:
            raise CacheUnavailable
        # Shielded: one caller that gives up must not end the attempt for the others.
        return await asyncio.shield(self._attempt)

    def _ended(self, attempt: "asyncio.Task[Link]") -> None:
        self._attempt = None
        if attempt.cancelled():
            return
        if attempt.exception() is None:
            if self._failures:
                _log.info("Redis is back")
            self._failures = 0
            self._link = attempt.result()

    def _failed(self, reason: str) -> None:
        if not self._failures:
            _log.warning("Redis is away", extra={"reason": reason})
        self._retry_at = self._loop.time() + _BACKOFF[min(self._failures, len(_BACKOFF) - 1)]
        self._failures += 1

    async def _open(self) -> Link:
        host, port, tls, hello = self._address
        link: Link | None = None
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, link = await self._loop.create_connection(Link, host, port, ssl=tls)
                check_hello(await link.send(hello))
            return link
        except Exception as error:  # whatever it was: requests go on without Redis, and the log says why
            if link is not None:
                link.abort()
            self._failed(f"{type(error).__name__}: {error}")
            raise CacheUnavailable from None
