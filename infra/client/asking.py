"""Requests over sockets that come and go, and their replies."""

import threading
from concurrent.futures import Future
from contextlib import suppress
from itertools import count
from typing import Any

from websockets.exceptions import ConnectionClosed

from infra.client.link import Link


class _Asked:
    """A request that waits for its reply."""

    def __init__(self, request: dict[str, Any]):
        self.request = request
        self.reply: Future[dict[str, Any]] = Future()


class Asking:
    """What is asked of the live service, by many threads: over the link that there is, and without a reply the next."""

    def __init__(self) -> None:
        self._ids = count(1)
        # Guards the link and what waits: nothing that is asked falls between two links.
        self._lock = threading.Lock()
        self._link: Link | None = None
        self._waiting: dict[str, _Asked] = {}
        self._end: Exception | None = None

    def request(self, action: str, data: dict[str, Any]) -> dict[str, Any]:
        """A request with an id of its own."""
        return {"id": str(next(self._ids)), "action": action, "data": data}

    def ask(self, action: str, data: dict[str, Any], seconds: float) -> dict[str, Any]:
        """The reply to a request. Raises TimeoutError, and what `fail` or `end` was told."""
        asked = _Asked(self.request(action, data))
        with self._lock:
            if self._end is not None:
                raise self._end
            self._waiting[asked.request["id"]] = asked
            here = self._link
        try:
            if here is not None:
                with suppress(ConnectionClosed):  # then it is asked over the next
                    here.send(asked.request)
            return asked.reply.result(seconds)
        finally:
            with self._lock:
                del self._waiting[asked.request["id"]]

    def over(self, link: Link | None) -> list[dict[str, Any]]:
        """Ask over this link from now on, or over none; what waits for a reply, to be asked anew."""
        with self._lock:
            self._link = link
            return [asked.request for asked in self._waiting.values()]

    def take(self, reply: dict[str, Any]) -> None:
        """Give a reply to who waits for it."""
        with self._lock:
            asked = self._waiting.get(reply["reply_to"])
        if asked is not None and not asked.reply.done():  # asked twice, it is replied to twice
            asked.reply.set_result(reply)

    def fail(self, fault: Exception) -> None:
        """Have what waits end with this fault."""
        with self._lock:
            waiting = [asked for asked in self._waiting.values() if not asked.reply.done()]
        for asked in waiting:
            asked.reply.set_exception(fault)

    def end(self, fault: Exception) -> None:
        """Have all that waits, and whatever is asked later, end with this fault."""
        with self._lock:
            self._end = fault
        self.fail(fault)
