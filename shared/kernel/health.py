"""Health: `/healthz` says that the process runs, `/readyz` what each store says."""

import asyncio
from typing import Any, Final

from shared.kernel import cache, codec, db, http, storage
from shared.kernel.problems import Unavailable

PATHS: Final = frozenset({"/healthz", "/readyz"})
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


async def answer(path: str) -> http.Answer:
    """The health document. `/readyz` is 503 while Postgres is down: without the truth nothing can be served."""
    if path == "/healthz":
        return http.Answer(200, b'{"status":"up"}', codec.JSON_TYPE)
    postgres, redis, media = await asyncio.gather(
        _state(db.in_thread(_ping_postgres)), _state(_ping_redis()), _state(db.in_thread(storage.ping))
    )
    document = {
        "status": "up" if postgres == "up" else "down",
        "stores": {"postgres": postgres, "redis": redis, "storage": media},
    }
    return http.Answer(200 if postgres == "up" else 503, codec.encode(document, "json"), codec.JSON_TYPE)
