"""The link to Redis Pub/Sub: one connection an instance, which hears the channels of the users who are here.

It comes back by itself: then all channels are asked for again, and `relinked` is called, since something may have been
missed meanwhile.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import hiredis

from shared.kernel.cache import CacheUnavailable, ReplyError
from shared.kernel.cache_wire import CONNECT_SECONDS, address, pack
from shared.kernel.config import settings

PING_SECONDS: Final = 5.0
CONFIRM_SECONDS: Final = 3.0
_BACKOFF: Final = (0.05, 0.2, 0.5, 1.0, 2.0)
_log: Final = logging.getLogger("live.bus")


class Bus:
    """The link. `heard` gets each message's channel and payload; `unlinked` is called before anything can be missed."""

    def __init__(
        self,
        heard: Callable[[str, bytes], None],
        relinked: Callable[[], Awaitable[None]],
        unlinked: Callable[[], None],
    ):
        self._heard = heard
        self._unlinked = unlinked
        self._failures = 0
        self._relinked = relinked
        self._channels: dict[str, asyncio.Future[None]] = {}
        # Confirmations still to come, by channel: of one that is left and heard again, the first is of before.
        self._unconfirmed = Counter[str]()
        self._writer: asyncio.StreamWriter | None = None
        self._alive = asyncio.Event()

    @property
    def is_up(self) -> bool:
        """Whether Redis is linked just now."""
        return self._writer is not None

    async def run(self) -> None:
        """Keep the link until cancelled."""
        while True:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    reader, writer = await self._connect()
                await self._listen(reader, writer)
            except (OSError, TimeoutError, asyncio.IncompleteReadError, hiredis.HiredisError) as fault:
                _log.warning("Redis Pub/Sub is not linked", extra={"reason": f"{type(fault).__name__}: {fault}"})
            finally:
                self._unlink()
            await asyncio.sleep(_BACKOFF[min(self._failures, len(_BACKOFF) - 1)])
            self._failures += 1

    async def subscribe(self, channel: str) -> None:
        """Hear a channel; returns when Redis has confirmed it. Raises CacheUnavailable."""
        waiting = self._channels.get(channel)
        if waiting is None:
            waiting = self._channels[channel] = asyncio.get_running_loop().create_future()
            self._ask(channel)
        try:
            async with asyncio.timeout(CONFIRM_SECONDS):
                await asyncio.shield(waiting)
        except TimeoutError:
            raise CacheUnavailable from None

    def unsubscribe(self, channel: str) -> None:
        """Hear it no more."""
        waiting = self._channels.pop(channel, None)
        if waiting is None:
            return
        if not waiting.done():
            waiting.set_result(None)  # nobody is here to hear; who waits for all channels needn't wait for it
        if self._writer is not None:
            self._writer.write(pack(("UNSUBSCRIBE", channel)))

    def _ask(self, *channels: str) -> None:
        if self._writer is not None:
            self._unconfirmed.update(channels)
            self._writer.write(pack(("SUBSCRIBE", *channels)))

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        there = address(settings().redis_url)
        reader, writer = await asyncio.open_connection(there.host, there.port, ssl=there.tls)
        try:
            for command in there.hello:
                writer.write(pack(command))
                reply = await reader.readline()
                if not reply.startswith(b"+"):
                    raise ConnectionError(reply.decode(errors="replace").strip() or "it closed the connection")
        except BaseException:
            writer.close()
            raise
        return reader, writer

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser: Any = hiredis.Reader()
        self._writer = writer
        if self._channels:
            self._ask(*self._channels)
        pinging = asyncio.create_task(self._ping(writer))
        relinking = asyncio.create_task(self._relink(writer))
        try:
            while data := await reader.read(1 << 16):
                self._alive.set()
                parser.feed(data)
                while (message := parser.gets()) is not False:
                    self._take(message)
        finally:
            pinging.cancel()
            relinking.cancel()

    def _take(self, message: Any) -> None:
        if isinstance(message, hiredis.ReplyError):
            raise ConnectionError(str(message))
        if not isinstance(message, list):
            return
        kind, *rest = cast("list[Any]", message)
        if kind == b"message":
            self._heard(rest[0].decode(), rest[1])
        elif kind == b"subscribe":
            name = rest[0].decode()
            self._unconfirmed[name] -= 1
            if self._unconfirmed[name] > 0:
                return
            del self._unconfirmed[name]
            waiting = self._channels.get(name)
            if waiting is not None and not waiting.done():
                waiting.set_result(None)

    async def _ping(self, writer: asyncio.StreamWriter) -> None:
        while True:
            self._alive.clear()
            writer.write(pack(("PING",)))
            try:
                async with asyncio.timeout(PING_SECONDS):
                    await self._alive.wait()
            except TimeoutError:
                writer.close()
                return
            await asyncio.sleep(PING_SECONDS)

    async def _relink(self, writer: asyncio.StreamWriter) -> None:
        # Only once every channel is heard again: what is read then is all that could have been missed.
        try:
            waiting = [future for future in self._channels.values() if not future.done()]
            if waiting and (await asyncio.wait(waiting, timeout=CONFIRM_SECONDS))[1]:
                raise CacheUnavailable
            await self._relinked()
            self._failures = 0
        except (CacheUnavailable, ReplyError):
            _log.warning("can't catch up; linking again")
            writer.close()

    def _unlink(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            self._unlinked()
        self._unconfirmed.clear()
        loop = asyncio.get_running_loop()
        for channel, waiting in self._channels.items():
            if waiting.done():
                self._channels[channel] = loop.create_future()
