"""Where plain functions run: on the event loop's own thread, or in one beside it.

A write is a plain function that waits for Postgres once or twice. In a thread it would have to win the interpreter from
the loop, and give it back, each time; that costs more than the write itself (docs/decisions/writes-on-the-loop.md).
So `on_loop` runs it as a greenlet: what it waits for, the loop awaits. What can't be awaited is `blocking`.
"""

import asyncio
import contextvars
import functools
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, ParamSpec, TypeVar

from greenlet import getcurrent, greenlet

T = TypeVar("T")
P = ParamSpec("P")
# Wide enough that what waits for one store leaves threads for the others; few of them ever run at once.
_threads: Final = ThreadPoolExecutor(64, thread_name_prefix="work")


class _OnLoop(greenlet):
    """A function under way on the loop."""


async def on_loop(act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `act` gives, run here, in this context. Only `wait` and what is `blocking` may keep it."""
    here = _OnLoop(act)
    here.gr_context = contextvars.copy_context()
    came: Any = here.switch(*args, **kwargs)
    while not here.dead:
        try:
            answer = await came
        except BaseException as fault:
            came = here.throw(fault)
        else:
            came = here.switch(answer)
    return came


async def in_thread(act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `act` gives, run in a thread, in this context."""
    return await _in(_threads, lambda: act(*args, **kwargs))


async def _in(executor: ThreadPoolExecutor, act: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(executor, contextvars.copy_context().run, act)


def is_on_loop() -> bool:
    """Whether this is called from what `on_loop` runs."""
    return isinstance(getcurrent(), _OnLoop)


def wait(what: Awaitable[T]) -> T:
    """What is awaited, for what `on_loop` runs."""
    loop: Any = getcurrent().parent
    return loop.switch(what)


def blocking(act: Callable[P, T], executor: ThreadPoolExecutor = _threads) -> Callable[P, T]:
    """Decorate what blocks: called from what `on_loop` runs, it goes to a thread."""

    @functools.wraps(act)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if is_on_loop():
            return wait(_in(executor, lambda: act(*args, **kwargs)))
        return act(*args, **kwargs)

    return call


def result(future: Future[T], seconds: float) -> T:
    """A future's result, wherever this runs. Raises TimeoutError."""
    if is_on_loop():
        return wait(asyncio.wait_for(asyncio.wrap_future(future), seconds))
    return future.result(seconds)


def sleep(seconds: float) -> None:
    """Pause, wherever this runs."""
    if is_on_loop():
        wait(asyncio.sleep(seconds))
    else:
        time.sleep(seconds)
