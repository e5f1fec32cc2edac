"""Many who leave at once: all of them are said to have left, and nobody is turned away for it."""

import asyncio
import time
from typing import Any

from infra.local.stack import Stack
from realtime_service.connection import Connection
from realtime_service.hub import Hub
from shared.kernel import cache, clock, ids
from shared.kernel.cache_link import MAX_WAITING
from shared.presence import reads as presences
from tests.client import WAIT_SECONDS

TOGETHER = 500


def connection_of(user_id: int) -> Connection:
    """A socket of theirs, as the hub knows it."""
    unused: Any = None
    made = Connection("json", unused, unused, unused, unused)
    made.user_id = user_id
    return made


async def how_many_since(user_ids: list[int], until: int) -> int:
    """How many of them count as here until then, or longer."""
    found = 0
    for start in range(0, len(user_ids), TOGETHER):
        replies = await cache.run(*[presences.ask(user_id) for user_id in user_ids[start : start + TOGETHER]])
        found += sum(presences.until_in(reply) >= until for reply in replies)
    return found


def test_a_crowd_larger_than_what_may_wait_for_redis_leaves_and_others_come(stack: Stack) -> None:
    crowd = [ids.new_id() for _ in range(MAX_WAITING + 1000)]

    async def leave() -> None:
        hub = Hub("crowd")
        connections = [connection_of(user_id) for user_id in crowd]
        for connection in connections:
            hub.users[connection.user_id] = {connection}
        went = clock.now_ms()
        for connection in connections:
            hub.remove(connection)
        await asyncio.sleep(0)
        # Who comes just now asks Redis too.
        assert await cache.run(("PING",)) == [b"PONG"]
        until = time.monotonic() + WAIT_SECONDS
        while await how_many_since(crowd, went + presences.away_ms()) < len(crowd):
            assert time.monotonic() < until
            await asyncio.sleep(0.05)
        for start in range(0, len(crowd), TOGETHER):
            await cache.run(("DEL", *map(presences.key, crowd[start : start + TOGETHER])))

    asyncio.run(leave())
