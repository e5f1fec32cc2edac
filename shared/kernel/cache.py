"""Redis: `run` for `async def` reads, `run_sync` for plain `def` code, the same commands in both.

While Redis is down every call fails at once, so that reads go to Postgres without waiting. redis-py, for what is more
than commands and replies, is imported only by who asks for it.
"""

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from shared.kernel import ledger, running
from shared.kernel.cache_link import Client
from shared.kernel.cache_pool import REPLY_SECONDS, Pool
from shared.kernel.cache_wire import CONNECT_SECONDS, CacheUnavailable, Command, ReplyError, Script, address
from shared.kernel.config import settings

if TYPE_CHECKING:
    import redis as redis_py

__all__ = [
    "CacheUnavailable",
    "Command",
    "ReplyError",
    "Script",
    "disconnect",
    "redis",
    "run",
    "run_sync",
]

_clients: Final[dict[asyncio.AbstractEventLoop, Client]] = {}
_pool: Pool | None = None
_redis: "redis_py.Redis | None" = None


async def run(*commands: Command) -> list[Any]:
    """The replies to `commands` (bytes, int, None or lists of those), in one round trip.

    Raises CacheUnavailable; ReplyError for a command that Redis refuses.
    """
    if not commands:
        return []
    client = _clients.get(asyncio.get_running_loop()) or _new_client()
    started = time.perf_counter()
    try:
        return await client.run(commands)
    finally:
        ledger.record("redis", time.perf_counter() - started, statements=len(commands))


def _new_client() -> Client:
    for loop in [loop for loop in _clients if loop.is_closed()]:
        del _clients[loop]
    client = _clients[asyncio.get_running_loop()] = Client(address(settings().redis_url))
    return client


def run_sync(*commands: Command) -> list[Any]:
    """`run` for plain `def` code, on a connection of a pool where this is a thread. Raises the same."""
    global _pool
    if running.is_on_loop():
        return running.wait(run(*commands))
    if not commands:
        return []
    if _pool is None:
        _pool = Pool(address(settings().redis_url))
    started = time.perf_counter()
    try:
        return _pool.run(commands)
    finally:
        ledger.record("redis", time.perf_counter() - started, statements=len(commands))


def redis() -> "redis_py.Redis":
    """redis-py's client, pooled, for plain `def` code that needs more than `run_sync`: subscriptions, scans."""
    global _redis
    if _redis is None:
        import redis as redis_py
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        _redis = redis_py.Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
            settings().redis_url,
            socket_timeout=REPLY_SECONDS,
            socket_connect_timeout=CONNECT_SECONDS,
            health_check_interval=15,
            # Its own default waits and sends again for seconds, also what was done already.
            retry=Retry(NoBackoff(), 0),
        )
    return _redis


def disconnect() -> None:
    """Close this event loop's connection, if in one, and those that idle in the pool. The next use opens new ones."""
    global _pool, _redis
    pool, _pool = _pool, None
    if pool is not None:
        pool.close()
    client, _redis = _redis, None
    if client is not None:
        client.close()
    try:
        shared = _clients.pop(asyncio.get_running_loop(), None)
    except RuntimeError:
        return
    if shared is not None:
        shared.close()
