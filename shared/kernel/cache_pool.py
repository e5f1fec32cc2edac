"""Redis for plain `def` code: a pool of blocking connections, each lent to one trip at a time.

A trip costs a quarter of redis-py's CPU time and none of its import. No trip is repeated by itself: what was sent may
have been done.
"""

import logging
import select
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

import hiredis

from shared.kernel import ledger
from shared.kernel.cache_wire import (
    CONNECT_SECONDS,
    Address,
    CacheUnavailable,
    Command,
    check_hello,
    pack,
    tune,
    unknown_scripts,
    with_loads,
)

REPLY_SECONDS: Final = 2.0
# After a wait for nothing, nobody else waits for so long.
PAUSE_SECONDS: Final = 1.0
_SLOW_SECONDS: Final = 0.5
_log: Final = logging.getLogger("redis")


class _Link:
    """One connection."""

    def __init__(self, address: Address):
        host, port, tls, hello = address
        sock = socket.create_connection((host, port), CONNECT_SECONDS)
        try:
            tune(sock)
            self._sock = tls.wrap_socket(sock, server_hostname=host) if tls is not None else sock
            self._reader = hiredis.Reader()
            check_hello(self.trip(hello))
            self._sock.settimeout(REPLY_SECONDS)
        except BaseException:
            sock.close()
            raise

    def trip(self, commands: Sequence[Command]) -> list[Any]:
        """The replies. Raises OSError, hiredis.ProtocolError; then it can't be used again."""
        self._sock.sendall(b"".join([pack(command) for command in commands]))
        replies: list[Any] = []
        while len(replies) < len(commands):
            received = self._sock.recv(65536)
            if not received:
                raise ConnectionResetError
            self._reader.feed(received)
            while (reply := self._reader.gets()) is not False:
                replies.append(reply)
        return replies

    def is_quiet(self) -> bool:
        """Whether nothing waits to be read, as the end of the connection would."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """End it."""
        self._sock.close()


class Pool:
    """Connections, as many as threads have needed at once; the one given back last is lent first."""

    def __init__(self, address: Address):
        self._address = address
        self._free: list[_Link] = []
        self._lock = threading.Lock()
        self._away = False
        self._paused_until = 0.0

    def run(self, commands: Sequence[Command]) -> list[Any]:
        """The replies. Raises CacheUnavailable, ReplyError."""
        replies = self._trip(commands)
        if unknown := unknown_scripts(replies):
            again = self._trip(with_loads([commands[index] for index in unknown]))
            ledger.record("redis", 0.0, statements=len(again))  # its time is in the call's
            if unknown_scripts(again):
                raise CacheUnavailable
            for index, reply in zip(unknown, again[1::2], strict=True):
                replies[index] = reply
        return replies

    def close(self) -> None:
        """Close what idles."""
        with self._lock:
            free, self._free = self._free, []
        for link in free:
            link.close()

    def _trip(self, commands: Sequence[Command]) -> list[Any]:
        started = time.monotonic()
        if started < self._paused_until:
            raise CacheUnavailable
        link: _Link | None = None
        try:
            link = self._take() or _Link(self._address)
            replies = link.trip(commands)
        except BaseException as error:
            if link is not None:
                link.close()
            if not isinstance(error, (OSError, hiredis.ProtocolError)):
                raise
            self.close()  # their server has gone, or doesn't answer
            if not self._away:
                _log.warning("Redis is away", extra={"reason": f"{type(error).__name__}: {error}"})
            self._away = True
            if time.monotonic() - started > _SLOW_SECONDS:
                self._paused_until = time.monotonic() + PAUSE_SECONDS
            raise CacheUnavailable from None
        if self._away:
            _log.info("Redis is back")
            self._away = False
        with self._lock:
            self._free.append(link)
        return replies

    def _take(self) -> _Link | None:
        while True:
            with self._lock:
                link = self._free.pop() if self._free else None
            if link is None or link.is_quiet():
                return link
            link.close()
