"""Saying who came and went: all of a moment together, however many come or go at once."""

import asyncio
import contextlib
import logging
from itertools import islice
from typing import Final

from shared.kernel import cache
from shared.presence import actions as presence

TOGETHER: Final = 500
_log: Final = logging.getLogger("live.here")


class Here:
    """What this instance is still to say: one command at a time, and what comes meanwhile is said by the next.

    One command for each user would be more than the link lets wait when a crowd leaves, and who comes just then would
    be turned away. Who came is waiting to be let in, so they are said first, and those who left in the room that is
    left: they wait while so many come that there is none.

    That one came and that one left is said in the same words, that they are here or were until just now, as of when it
    is said: of a user who does both it may be said twice, in any order.
    """

    def __init__(self, instance_id: str):
        self._instance_id = instance_id
        self._came: dict[int, asyncio.Future[None]] = {}
        # In order, as a set isn't.
        self._left: dict[int, None] = {}
        self._saying: asyncio.Task[None] | None = None

    def came(self, user_id: int) -> "asyncio.Future[None]":
        """Say that a user is here; done once it was said, or couldn't be. Shared: wait shielded."""
        said = self._came.get(user_id)
        if said is None:
            said = self._came[user_id] = asyncio.get_running_loop().create_future()
            self._begin()
        return said

    def left(self, user_id: int) -> None:
        """Say that a user was here until just now."""
        self._left[user_id] = None
        self._begin()

    def _begin(self) -> None:
        if self._saying is None:
            self._saying = asyncio.get_running_loop().create_task(self._say())

    async def _say(self) -> None:
        while self._came or self._left:
            came = {user_id: self._came.pop(user_id) for user_id in list(islice(self._came, TOGETHER))}
            left = list(islice(self._left, TOGETHER - len(came)))
            for user_id in left:
                del self._left[user_id]
            try:
                with contextlib.suppress(cache.CacheUnavailable):
                    await cache.run(presence.here([*came, *left], self._instance_id))
            except Exception:  # nobody is turned away for it, nor left waiting
                _log.exception("can't say who is here")
            for said in came.values():
                said.set_result(None)
        self._saying = None
