"""Writing once a turn of the event loop: many frames for a socket are one call of the system."""

import asyncio
import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from realtime_service.wire import Wire

_log: Final = logging.getLogger("live")


class Turn:
    """The sockets that have something to write. One callback for all: one each costs much of what it does."""

    def __init__(self) -> None:
        self._due: list[Wire] = []

    def add(self, wire: "Wire") -> None:
        """Have it flushed when this turn ends."""
        if not self._due:
            asyncio.get_running_loop().call_soon(self._end)
        self._due.append(wire)

    def _end(self) -> None:
        due, self._due = self._due, []
        for wire in due:
            try:
                wire.flush()
            except Exception:  # a fault of one socket's is not the others'
                _log.exception("a socket can't be written to")
                wire.close(1011, "internal error")
