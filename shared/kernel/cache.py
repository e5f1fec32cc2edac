"""Redis for reads: one connection a process, shared by all requests, their commands written once per event-loop turn.

hiredis packs and parses. A reply that comes late ends the connection, so that replies can't be taken for others'; while
Redis is down every call fails at once, so that reads go to Postgres without waiting. Plain `def` code has redis-py's
pool under `run_sync`, with the same commands.
"""

import asyncio
import hashlib
import ssl
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, cast
from urllib.parse import unquote, urlsplit

import hiredis

from shared.kernel import ledger
from shared.kernel.config import settings
from shared.kernel.problems import Unavailable

Command = tuple[str | bytes | int, ...]

CONNECT_SECONDS: Final = 1.0
REPLY_SECONDS: Final = 1.0
SYNC_SECONDS: Final = 2.0
MAX_PENDING: Final = 50_000
_BACKOFF: Final = (0.05, 0.1, 0.2, 0.5, 1.0)
_NOSCRIPT: Final = "NOSCRIPT"


class CacheUnavailable(Unavailable):
    """503: Redis can't be reached, or doesn't answer in time. Reads go on without it."""

    def __init__(self) -> None:
        super().__init__("redis")


class ReplyError(Exception):
    """Redis refused a command: a fault of ours."""


# Through Any: its stub knows commands of one word only.
_pack: Callable[[Command], bytes] = cast("Any", hiredis).pack_command
_scripts: dict[str, str] = {}


class Script:
    """A Lua script, called by its digest and loaded when Redis doesn't know it."""

    def __init__(self, lua: str):
        self.digest = hashlib.sha1(lua.encode(), usedforsecurity=False).hexdigest()
        _scripts[self.digest] = lua

    def command(self, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Command:
        """The command that runs it."""
        return ("EVALSHA", self.digest, len(keys), *keys, *args)


class _Batch:
    """The commands of one call, and what has been answered of them."""

    __slots__ = ("due", "future", "replies", "wanted")

    def __init__(self, future: "asyncio.Future[list[Any]]", wanted: int, due: float):
        self.future = future
        self.wanted = wanted
        self.replies: list[Any] = []
        self.due = due


class _Link(asyncio.Protocol):
    """One connection: what is to be written this turn, and who waits for replies, in order."""

    def __init__(self) -> None:
        self.reader = hiredis.Reader()
        self.waiting: deque[_Batch] = deque()
        self.outgoing: list[bytes] = []
        self.transport: Any = None
        self.closed = False
        self.loop = asyncio.get_running_loop()
        self.watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def send(self, commands: Sequence[Command], seconds: float) -> "asyncio.Future[list[Any]]":
        future: asyncio.Future[list[Any]] = self.loop.create_future()
        self.waiting.append(_Batch(future, len(commands), self.loop.time() + seconds))
        if not self.outgoing:
            self.loop.call_soon(self._flush)
        pack = _pack
        self.outgoing += [pack(command) for command in commands]
        if self.watch is None:
            self.watch = self.loop.call_later(seconds, self._check_due)
        return future

    def _flush(self) -> None:
        outgoing, self.outgoing = self.outgoing, []
        if outgoing and not self.closed:
            self.transport.write(b"".join(outgoing))

    def data_received(self, data: bytes) -> None:
        self.reader.feed(data)
        try:
            while (reply := self.reader.gets()) is not False:
                batch = self.waiting[0]
                batch.replies.append(reply)
                if len(batch.replies) == batch.wanted:
                    self.waiting.popleft()
                    # A caller that gave up has cancelled its future; its replies are taken all the same, in order.
                    if not batch.future.done():
                        batch.future.set_result(batch.replies)
        except (hiredis.ProtocolError, IndexError):
            self.abort()

    def _check_due(self) -> None:
        self.watch = None
        if not self.waiting or self.closed:
            return
        left = self.waiting[0].due - self.loop.time()
        if left <= 0:
            self.abort()
        else:
            self.watch = self.loop.call_later(left, self._check_due)

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()
        self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        waiting, self.waiting = self.waiting, deque()
        for batch in waiting:
            if not batch.future.done():
                batch.future.set_exception(CacheUnavailable())
                batch.future.exception()  # its caller may have gone; that is no fault to log


class _Client:
    """The client of one event loop."""

    def __init__(self) -> None:
        self.link: _Link | None = None
        self.connecting: asyncio.Future[_Link] | None = None
        self.failures = 0
        self.retry_at = 0.0

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        link = self.link
        if link is None or link.closed:
            link = await self._connect()
        if len(link.waiting) >= MAX_PENDING:
            raise CacheUnavailable
        replies = await link.send(commands, REPLY_SECONDS)
        for index, reply in enumerate(replies):
            if isinstance(reply, hiredis.ReplyError):
                replies[index] = await self._again(link, commands[index], reply)
        return replies

    async def _again(self, link: _Link, command: Command, error: Exception) -> Any:
        if not str(error).startswith(_NOSCRIPT):
            raise _meaning(error)
        _, reply = await link.send([("SCRIPT", "LOAD", _scripts[str(command[1])]), command], REPLY_SECONDS)
        if isinstance(reply, hiredis.ReplyError):
            raise _meaning(reply)
        return reply

    async def _connect(self) -> _Link:
        if self.connecting is None:
            if time.monotonic() < self.retry_at:
                raise CacheUnavailable
            self.connecting = asyncio.ensure_future(self._open())
            self.connecting.add_done_callback(self._connected)
        # Shielded: one caller that gives up must not end the attempt for the others.
        return await asyncio.shield(self.connecting)

    def _connected(self, attempt: "asyncio.Future[_Link]") -> None:
        self.connecting = None
        if attempt.cancelled() or attempt.exception() is not None:
            self.retry_at = time.monotonic() + _BACKOFF[min(self.failures, len(_BACKOFF) - 1)]
            self.failures += 1
        else:
            self.link = attempt.result()
            self.failures = 0

    async def _open(self) -> _Link:
        url = urlsplit(settings().redis_url)
        context = ssl.create_default_context() if url.scheme == "rediss" else None
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, link = await asyncio.get_running_loop().create_connection(
                    _Link, url.hostname or "127.0.0.1", url.port or 6379, ssl=context
                )
                hello: list[Command] = [("CLIENT", "SETNAME", "reads")]
                if url.password:
                    hello.insert(0, ("AUTH", unquote(url.username or "default"), unquote(url.password)))
                if url.path.strip("/"):
                    hello.append(("SELECT", url.path.strip("/")))
                replies = await link.send(hello, CONNECT_SECONDS)
        except (OSError, TimeoutError, CacheUnavailable):
            raise CacheUnavailable from None
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                link.abort()
                # Still loading its data after a restart is the one refusal that passes.
                raise _meaning(reply)
        return link


def _meaning(error: Exception) -> Exception:
    passing = ("LOADING", "BUSY", "MASTERDOWN", "READONLY", "CLUSTERDOWN", "OOM")
    return CacheUnavailable() if str(error).startswith(passing) else ReplyError(str(error))


_clients: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Client]" = weakref.WeakKeyDictionary()


async def run(*commands: Command) -> list[Any]:
    """The replies to `commands` (bytes, int, None or lists of those), in one round trip.

    Raises CacheUnavailable; ReplyError for a command that Redis refuses.
    """
    if not commands:
        return []
    loop = asyncio.get_running_loop()
    client = _clients.get(loop)
    if client is None:
        client = _clients[loop] = _Client()
    started = time.perf_counter()
    try:
        return await client.run(commands)
    finally:
        ledger.record("redis", time.perf_counter() - started, statements=len(commands))


# Any: redis-py types its commands for both of its clients at once.
_redis: Any = None


def redis() -> Any:
    """redis-py's client, pooled, for plain `def` code that needs more than `run_sync`."""
    global _redis
    if _redis is None:
        import redis as redis_py

        client: Any = redis_py.Redis
        _redis = client.from_url(
            settings().redis_url,
            socket_timeout=SYNC_SECONDS,
            socket_connect_timeout=CONNECT_SECONDS,
            health_check_interval=15,
        )
    return _redis


def run_sync(*commands: Command) -> list[Any]:
    """`run` for plain `def` code, over redis-py's pool. Raises the same."""
    import redis as redis_py

    if not commands:
        return []
    started = time.perf_counter()
    try:
        return _run_pipeline(commands)
    except (redis_py.ConnectionError, redis_py.TimeoutError, OSError):
        raise CacheUnavailable from None
    finally:
        ledger.record("redis", time.perf_counter() - started, statements=len(commands))


def _run_pipeline(commands: Sequence[Command]) -> list[Any]:
    import redis as redis_py
    from redis.exceptions import NoScriptError

    pipeline = redis().pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    replies: list[Any] = pipeline.execute(raise_on_error=False)
    for index, reply in enumerate(replies):
        if isinstance(reply, NoScriptError):
            redis().script_load(_scripts[str(commands[index][1])])
            replies[index] = redis().execute_command(*commands[index])
        elif isinstance(reply, (redis_py.ConnectionError, redis_py.TimeoutError)):
            raise reply
        elif isinstance(reply, redis_py.RedisError):
            raise _meaning(reply)
    return replies
