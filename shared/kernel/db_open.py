"""Opens connections to Postgres, by DATABASE_URL or through Cloud SQL's connector, with the limits that requests need.

`sslmode` in the URL means what it does to libpq: disable, prefer (the default), require, verify-ca, verify-full with
`sslrootcert`. The limits go with the start-up packet, so that they cost no round trip.
"""

import asyncio
import contextlib
import logging
import re
import select
import socket
import ssl
import struct
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, cast
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import msgspec
from pg8000.converters import (  # pyright: ignore[reportMissingTypeStubs]
    JSON,
    JSONB,
    PG_TYPES,  # pyright: ignore[reportUnknownVariableType]
    PY_TYPES,  # pyright: ignore[reportUnknownVariableType]
    TEXT_ARRAY,
    make_param,  # pyright: ignore[reportUnknownVariableType]
)
from pg8000.core import CoreConnection  # pyright: ignore[reportMissingTypeStubs]
from pg8000.exceptions import DatabaseError as ServerError  # pyright: ignore[reportMissingTypeStubs]
from pg8000.exceptions import InterfaceError  # pyright: ignore[reportMissingTypeStubs]

from shared.kernel import running
from shared.kernel.config import settings

CONNECT_SECONDS: Final = 3
LET_GO_SECONDS: Final = 1.0
STATEMENT_MS: Final = 8_000
# Of one dimension, with nothing that is quoted.
_PLAIN: Final = re.compile(r'\{[^"{}\\]*\}')
_read_texts: Final = cast("Any", PG_TYPES)[TEXT_ARRAY]
_LIMITS: Final = {
    "statement_timeout": str(STATEMENT_MS),
    "lock_timeout": "3000",
    # Every statement is an index look-up whatever its parameters are. Left to itself Postgres plans many of them anew
    # each time: a third of what a follow costs it.
    "plan_cache_mode": "force_generic_plan",
    "idle_in_transaction_session_timeout": "15000",
}
# A dead network is noticed within a minute: first probe after 30 s of silence, three of them 10 s apart.
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3), ("TCP_NODELAY", 1))
# Any: pg8000 has no types of its own.
Raw = Any
_log: Final = logging.getLogger("postgres")


class CantConnect(Exception):
    """No connection: the log has the reason."""


def open_connection(*, limited: bool = True) -> Raw:
    """A new connection. Without `limited` its statements may take as long as they like. Raises CantConnect."""
    cloud = bool(settings().cloud_sql_instance)
    options: dict[str, Any] = {
        "application_name": settings().instance_id,
        "startup_params": dict(_LIMITS) if limited else {},
        "timeout": CONNECT_SECONDS,
    }
    try:
        conn = _by_cloud_sql(options) if cloud else _by_url(urlsplit(settings().database_url), options)
        _tune(conn, limited)
    except (ServerError, InterfaceError, OSError) as error:
        raise _cant_connect(error) from None
    except Exception as error:
        if not cloud:
            raise
        # The connector raises whatever its HTTP client, google-auth and TLS do.
        raise _cant_connect(error) from None
    return conn


def patience(limited: bool) -> float | None:
    """How long a connection waits for its server, in seconds."""
    return STATEMENT_MS / 1000 + CONNECT_SECONDS if limited else None


def _cant_connect(error: Exception) -> CantConnect:
    reason = str(error)
    if isinstance(error, ServerError) and error.args and isinstance(error.args[0], dict):
        reason = str(msgspec.convert(error.args[0], dict[str, str]).get("M"))
    _log.warning("can't connect to Postgres", extra={"reason": f"{type(error).__name__}: {reason}"})
    return CantConnect(reason)


class Stream:
    """What pg8000 reads and writes: a socket with a buffer each way, for a thread or, once attached, for the loop.

    It stays attached while it idles: to come and go for each statement was an eighth of what sending a message cost.
    Each call of the system gives up the interpreter to another thread, and getting it back is what a short statement
    costs most: so what is there is read at once, what is to be sent is sent at once, and nothing is polled for.
    """

    def __init__(self, sock: Any):
        self._sock = sock
        self._has_tls = isinstance(sock, ssl.SSLSocket)
        self._flags = 0 if self._has_tls else socket.MSG_DONTWAIT
        self._received = b""
        self._at = 0
        self._to_send: list[bytes] = []
        self._patience: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._arrived = bytearray()
        self.has_ended = False  # as far as the loop has noticed
        self._waiting: asyncio.Future[None] | None = None

    @property
    def is_disturbed(self) -> bool:
        """Whether the server has said something, or has ended the connection, since it was last used."""
        if self.has_ended or self._arrived or self._at < len(self._received):
            return True
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(0))

    def attach(self) -> None:
        """From here on, until `detach`, it is used by what runs on the loop, and the running loop waits for it."""
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        self.detach()
        self._loop = loop
        if self._has_tls:
            self._sock.settimeout(0)  # it takes no flags; the others are asked not to wait, call by call
        loop.add_reader(self._sock.fileno(), self._readable)

    def detach(self) -> None:
        """From here on it may be used by any thread, as this is one. Raises OSError if the loop doesn't let go in time.

        Then the loop closes it when it comes to it: closed before, its number would be another's, who waits in vain.
        """
        done: Future[None] = Future()
        if not self._on_its_loop(lambda: self._let_go_for(done)):
            return
        try:
            done.result(LET_GO_SECONDS)
        except TimeoutError:
            if done.cancel():
                raise OSError("the event loop keeps the connection") from None

    def close_by(self, close: Callable[[], object]) -> None:
        """Have it closed by `close`, once no loop watches it: here, or soon by the loop that does."""

        def end() -> None:
            self._let_go()
            close()

        if not self._on_its_loop(end):
            close()

    def _on_its_loop(self, act: Callable[[], object]) -> bool:
        """Have the loop that watches it call `act`, if that is another's; else let go of it here."""
        loop = self._loop
        if loop is None:
            return False
        if not loop.is_closed() and asyncio._get_running_loop() is not loop:
            with contextlib.suppress(RuntimeError):  # closed just now
                loop.call_soon_threadsafe(act)
                return True
        self._let_go()
        return False

    def _let_go_for(self, done: "Future[None]") -> None:
        keeps = done.set_running_or_notify_cancel()
        self._let_go()
        if keeps:
            done.set_result(None)
        else:
            self._sock.close()  # nobody waits for it any more

    def _let_go(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None and not loop.is_closed():
            loop.remove_reader(self._sock.fileno())
        self._received = self._received[self._at :] + bytes(self._arrived)
        self._at = 0
        self._arrived.clear()
        self._sock.settimeout(self._patience if self._has_tls else None)  # uvloop has made it one that doesn't wait

    def set_patience(self, seconds: float | None) -> None:
        """How long a read or write may wait; None: for ever."""
        self._patience = seconds
        if self._loop is not None:
            return
        if self._has_tls:
            self._sock.settimeout(seconds)  # Python would try again and again after a time-out of the system's own
            return
        self._sock.settimeout(None)
        whole = int(seconds or 0)
        limit = struct.pack("ll", whole, int(((seconds or 0) - whole) * 1_000_000))
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._sock.setsockopt(socket.SOL_SOCKET, option, limit)

    def read(self, size: int) -> bytes:
        """Just so many bytes. Raises OSError."""
        end = self._at + size
        while len(self._received) < end:
            more = self._sock.recv(65536) if self._loop is None else self._from_loop()
            if not more:
                raise ConnectionResetError("Postgres has ended the connection")
            self._received = self._received[self._at :] + more
            end -= self._at
            self._at = 0
        start, self._at = self._at, end
        return self._received[start:end]

    def _from_loop(self) -> bytes:
        # Woken for part of a TLS record as well, of which there is nothing to read yet.
        while not self._arrived and not self.has_ended:
            self._wait()
        more = bytes(self._arrived)
        self._arrived.clear()
        return more

    def _readable(self) -> None:
        try:
            while more := self._sock.recv(65536, self._flags):
                self._arrived += more
                if not self._has_tls:
                    break  # and only TLS keeps what the loop can't see
            self.has_ended = not more
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError:
            self.has_ended = True
        if self.has_ended and self._loop is not None:
            self._loop.remove_reader(self._sock.fileno())
        self._wake()

    def write(self, data: bytes) -> None:
        """Keep it for `flush`."""
        self._to_send.append(data)

    def flush(self) -> None:
        """Send what was written. Raises OSError."""
        data, self._to_send = b"".join(self._to_send), []
        if self._loop is None:
            self._sock.sendall(data)
            return
        while data:
            try:
                data = data[self._sock.send(data, self._flags) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._loop.add_writer(self._sock.fileno(), self._wake)
                try:
                    self._wait()
                finally:
                    self._loop.remove_writer(self._sock.fileno())

    def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        waiting = self._waiting = loop.create_future()
        timer = loop.call_later(self._patience, self._late) if self._patience else None
        try:
            running.wait(waiting)
        finally:
            self._waiting = None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _late(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(TimeoutError("Postgres doesn't answer"))

    def close(self) -> None:
        """Nothing is held here; pg8000 closes the socket."""


def _tune(conn: Raw, limited: bool) -> None:
    sock: Any = conn._usock
    # The connect time-out must not cut a slow statement: the server's own time-out ends it, a little earlier.
    conn._sock = stream = Stream(sock)
    stream.set_patience(patience(limited))
    for name, value in _KEEPALIVE:
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    conn.register_in_adapter(JSON, msgspec.json.decode)
    conn.register_in_adapter(JSONB, msgspec.json.decode)
    conn.register_in_adapter(TEXT_ARRAY, texts)
    conn.register_out_adapter(list, array_literal)
    conn.register_out_adapter(dict, _json)


def _by_url(url: SplitResult, options: dict[str, Any]) -> Raw:
    conn: Raw = CoreConnection(
        unquote(url.username or "postgres"),
        host=url.hostname or "127.0.0.1",
        port=url.port or 5432,
        database=unquote(url.path[1:]) or "postgres",
        password=unquote(url.password or ""),
        ssl_context=_tls(parse_qs(url.query)),
        **options,
    )
    return conn


def _tls(query: dict[str, list[str]]) -> ssl.SSLContext | bool | None:
    # To pg8000 None is TLS where the server has it, True is TLS without asking who the server is, False is none.
    mode = query.get("sslmode", ["prefer"])[-1]
    if mode in ("disable", "require"):
        return mode == "require"
    if mode not in ("verify-ca", "verify-full"):
        return None
    context = ssl.create_default_context(cafile=query.get("sslrootcert", [None])[-1])
    context.check_hostname = mode == "verify-full"
    return context


_connector: Any = None


def _by_cloud_sql(options: dict[str, Any]) -> Raw:
    # 615 ms and 66 MiB to import: only who is told to use it pays.
    from google.cloud.sql.connector import Connector

    global _connector
    if _connector is None:
        # Refreshed when asked for: a function's CPU is frozen between requests, and with it background threads.
        _connector = Connector(refresh_strategy="lazy")
    password = settings().db_password
    conn: Raw = _connector.connect(
        settings().cloud_sql_instance,
        "pg8000",
        user=settings().db_user,
        password=password or None,
        db=settings().db_name,
        enable_iam_auth=not password,
        **options,
    )
    return conn


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def texts(literal: str) -> list[str | None]:
    """What an array of texts says. pg8000 reads each character in Python: a fifth of what saving a post cost."""
    if _PLAIN.fullmatch(literal) is None or "NULL" in literal:
        return _read_texts(literal)
    return [*literal[1:-1].split(",")] if literal != "{}" else []


def array_literal(values: list[Any]) -> str:
    """A list as Postgres's array literal. Strings are always quoted: pg8000's own takes the string "null" for NULL."""
    return "{" + ",".join(_element(value) for value in values) + "}"


def _element(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, list):
        return array_literal(cast("list[Any]", value))
    text: str = _json(value) if type(value) is dict else cast("Any", make_param)(PY_TYPES, value)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
