"""Health: `/healthz` says that the process runs, `/readyz` what each store says.

Anyone may ask, so the stores are asked once a second at most, and once for all who ask meanwhile.
"""

import asyncio
import time
from typing import Any, Final

from shared.kernel import cache, codec, db, http, running, storage
from shared.kernel.problems import Unavailable

PATHS: Final = frozenset({"/healthz", "/readyz"})
REMEMBERED_SECONDS: Final = 1.0
_PING: Final = db.Statement("SELECT 1 AS one")


def _ping_postgres() -> None:
    with db.connection() as conn:
        _PING.run(conn)


async def _ping_redis() -> None:
    await cache.run(("PING",))


async def _state(ping: Any) -> str:
    try:
        await ping
    except Unavailable:
        return "down"
    return "up"


async def _ask_stores() -> dict[str, str]:
    postgres, redis, media = await asyncio.gather(
        _state(running.on_loop(_ping_postgres)), _state(_ping_redis()), _state(running.on_loop(storage.ping))
    )
    return {"postgres": postgres, "redis": redis, "storage": media}


# What the stores say or have said, and when they were asked.
_asked: tuple[asyncio.Task[dict[str, str]], float] | None = None


async def _stores() -> dict[str, str]:
    global _asked
    loop = asyncio.get_running_loop()
    if _asked is None or _asked[0].get_loop() is not loop or _is_old(*_asked):
        _asked = loop.create_task(_ask_stores()), time.monotonic()
    # Whoever goes away takes the answer from nobody else.
    return await asyncio.shield(_asked[0])


def _is_old(asking: "asyncio.Task[dict[str, str]]", since: float) -> bool:
    return asking.done() and time.monotonic() - since >= REMEMBERED_SECONDS


async def answer(path: str) -> http.Answer:
    """The health document. `/readyz` is 503 while Postgres is down: without the truth nothing can be served."""
    if path == "/healthz":
        return http.Answer(200, b'{"status":"up"}', codec.JSON_TYPE)
    stores = await _stores()
    document = {"status": stores["postgres"], "stores": stores}
    return http.Answer(200 if stores["postgres"] == "up" else 503, codec.encode(document, "json"), codec.JSON_TYPE)
