"""Asking Redis in tests, from plain and from async code."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from shared.kernel import cache

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    async def and_leave() -> T:
        try:
            return await main
        finally:
            cache.disconnect()

    return asyncio.run(and_leave())


def is_unavailable() -> bool:
    try:
        cache.run_sync(("PING",))
    except cache.CacheUnavailable:
        return True
    return False


async def until_back() -> None:
    give_up = time.monotonic() + 10
    while True:
        try:
            await cache.run(("PING",))
        except cache.CacheUnavailable:
            assert time.monotonic() < give_up
            await asyncio.sleep(0.02)
        else:
            return
