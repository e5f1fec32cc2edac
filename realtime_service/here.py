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
    be turned away.
    """

    def __init__(self, instance_id: str):
        self._instance_id = instance_id
        self._unsaid: dict[int, asyncio.Future[None]] = {}
        self._saying: asyncio.Task[None] | None = None

    def say(self, user_id: int) -> "asyncio.Future[None]":
        """Say that a user is here, or was until just now; done once it was, or couldn't be. Shared: wait shielded."""
        said = self._unsaid.get(user_id)
        if said is None:
            loop = asyncio.get_running_loop()
            said = self._unsaid[user_id] = loop.create_future()
            if self._saying is None:
                self._saying = loop.create_task(self._say())
        return said

    async def _say(self) -> None:
        while self._unsaid:
            some = {user_id: self._unsaid.pop(user_id) for user_id in list(islice(self._unsaid, TOGETHER))}
            try:
                with contextlib.suppress(cache.CacheUnavailable):
                    await cache.run(presence.here(list(some), self._instance_id))
            except Exception:  # nobody is turned away for it, nor left waiting
                _log.exception("can't say who is here")
            for said in some.values():
                said.set_result(None)
        self._saying = None
