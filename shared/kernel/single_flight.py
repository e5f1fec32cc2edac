"""Single flight: what several requests miss at once is loaded once, and all of them get it.

Who joins may get what was read before they asked: so what is loaded goes to Redis under versions or marks, and where a
write is told to Redis in parts (a map, a timeline) the reader asks Redis again after it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Sequence
from typing import Any, Final, TypeVar, cast

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

# By event loop and key; each takes itself out when it is done.
_under_way: Final[dict[tuple[asyncio.AbstractEventLoop, Hashable], "asyncio.Task[Any]"]] = {}


async def shared(key: Hashable, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What `make` gives or raises, run once for all who ask for `key` meanwhile; one who gives up stops it for none."""
    running = _running(key)
    if running is None:
        running = _start([key], make())
    return await asyncio.shield(cast("Awaitable[T]", running))


async def each(kind: str, keys: Sequence[K], load: Callable[[list[K]], Coroutine[Any, Any, dict[K, T]]]) -> dict[K, T]:
    """What `load` finds for `keys`: those under way are waited for, the rest are loaded together."""
    tasks = {key: task for key in keys if (task := _running((kind, key))) is not None}
    rest = [key for key in dict.fromkeys(keys) if key not in tasks]
    if rest:
        tasks.update(dict.fromkeys(rest, _start([(kind, key) for key in rest], load(rest))))
    found: dict[K, T] = {}
    for task in dict.fromkeys(tasks.values()):
        found.update(await asyncio.shield(cast("Awaitable[dict[K, T]]", task)))
    return {key: found[key] for key in tasks if key in found}


def _running(key: Hashable) -> "asyncio.Task[Any] | None":
    task = _under_way.get((asyncio.get_running_loop(), key))
    return None if task is None or task.done() else task


def _start(keys: Sequence[Hashable], work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    for key in keys:
        _under_way[loop, key] = task

    def done(_: "asyncio.Task[T]") -> None:
        for key in keys:
            if _under_way.get((loop, key)) is task:
                del _under_way[loop, key]
        if not task.cancelled():
            task.exception()  # seen: whoever still waited has raised it

    task.add_done_callback(done)
    return task
