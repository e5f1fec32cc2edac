"""The guard of a request: is the session alive, is the allowance not used up; asked with the first commands of a read.

A read's first trip to Redis carries the guard's two commands as well, so that both cost no round trip of their own.
Nothing is answered before the guard was asked: `guarded` asks it itself where the endpoint has not.
"""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Final

from shared.kernel import cache, limits, sessions
from shared.kernel.endpoint import Caller, Endpoint, LimitClass
from shared.kernel.problems import Problem, Unauthorized

_LIVE: Final = b"1"


class Guard:
    """What has to hold before this request is answered."""

    __slots__ = ("asked", "fields", "limit", "session_id", "subject")

    def __init__(self, limit: LimitClass, subject: str, session_id: int | None):
        self.limit: LimitClass = limit
        self.subject = subject
        self.session_id = session_id
        self.asked = False
        self.fields: str | None = None

    async def ask(self, *commands: cache.Command) -> list[Any]:
        """Run `commands` in the trip that asks the guard. Raises Unauthorized, TooManyRequests, CacheUnavailable."""
        guards: list[cache.Command] = [limits.command(self.limit, self.subject)]
        if self.session_id is not None:
            guards.append(("GET", sessions.key(self.session_id)))
        try:
            replies = await cache.run(*guards, *commands)
        except cache.CacheUnavailable:
            await self._without_redis()
            if commands:
                raise
            return []
        self.asked = True
        self.fields = limits.judge(self.limit, replies[0])
        if self.session_id is not None and replies[1] != _LIVE:
            await self._check_session(unknown=replies[1] is None)
        return replies[len(guards) :]

    async def _without_redis(self) -> None:
        self.asked = True
        self.fields = limits.judge_locally(self.limit, self.subject)
        if self.session_id is not None:
            await self._check_session(unknown=True)

    async def _check_session(self, *, unknown: bool) -> None:
        if not (unknown and self.session_id is not None and await sessions.is_live(self.session_id)):
            raise Unauthorized("session_ended", "This session has ended. Sign in again.")


current: ContextVar[Guard | None] = ContextVar("guard", default=None)


def of(caller: Caller, limit: LimitClass) -> Guard:
    """The guard of what a signed-in user asks now."""
    guard = Guard(limit, str(caller.user_id), caller.session_id)
    current.set(guard)
    return guard


async def first(*commands: cache.Command) -> list[Any]:
    """Run a read's first commands, with the request's guard in the same trip where it is still to be asked."""
    guard = current.get()
    if guard is None or guard.asked:
        return await cache.run(*commands)
    return await guard.ask(*commands)


async def guarded(guard: Guard, endpoint: Endpoint, read: Callable[[], Awaitable[dict[str, Any]]]) -> Any:
    """What an async endpoint answers; of a plain one the arguments to call it with, which are what `read` gives.

    What is wrong is told only to who may ask, and counts against their allowance.
    """
    current.set(guard)
    if not endpoint.is_async:
        await guard.ask()
    try:
        arguments = await read()
        result = await endpoint.function(**arguments) if endpoint.is_async else arguments
    except Problem:
        if not guard.asked:
            await guard.ask()
        raise
    if not guard.asked:
        await guard.ask()
    return result
