"""Postgres by pg8000: statements prepared once a connection, a pool that outlives the server, faults by their meaning.

A `Statement` on a connection of `connection()` is a transaction of its own and one round trip. In `transaction()` the
BEGIN travels with the first statement. pg8000's connections are for one thread at a time, so one is lent to one caller:
a thread, or what runs on the event loop, which goes on meanwhile.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, Generic, ParamSpec, TypeVar, cast, get_args, overload

import msgspec
from pg8000.native import to_statement  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

from shared.kernel import running
from shared.kernel.config import settings
from shared.kernel.db_connection import Connection, Contended, DatabaseError, DatabaseUnavailable, UniqueViolation
from shared.kernel.db_open import CantConnect, open_connection

__all__ = [
    "Connection",
    "Contended",
    "DatabaseError",
    "DatabaseUnavailable",
    "NoRow",
    "Statement",
    "UniqueViolation",
    "connection",
    "disconnect",
    "json_of",
    "retrying",
    "together",
    "transaction",
    "unlimited",
]

ACQUIRE_SECONDS: Final = 5.0
# After a connect that hung, nobody else waits for one for so long.
SLOW_CONNECT_SECONDS: Final = 1.0
OPEN_AT_ONCE: Final = 8
RETRY_SECONDS: Final = (0.02, 0.1)

R = TypeVar("R")
T = TypeVar("T")
P = ParamSpec("P")


class NoRow(Exception):
    """A statement that must give a row gave none."""


class Statement(Generic[R]):
    """A statement with `:name` parameters; its rows as `row`, whose fields are filled in the order of the columns.

    A field that is a Struct, or has one in it, is made from JSON.
    """

    @overload
    def __init__(self: "Statement[None]", sql: str) -> None: ...
    @overload
    def __init__(self, sql: str, row: type[R]) -> None: ...
    def __init__(self, sql: str, row: type[R] | None = None):
        self.sql = sql
        self.row = row
        self._parsed: tuple[str, Callable[[dict[str, Any]], tuple[Any, ...]]] | None = None
        fields: Any = ()
        if row is not None and issubclass(row, msgspec.Struct):
            fields = msgspec.structs.fields(cast("type[msgspec.Struct]", row))
        self._nested = [(index, field.type) for index, field in enumerate(fields) if _has_struct(field.type)]

    def all(self, conn: Connection, **params: Any) -> list[R]:
        """Every row."""
        return [self._typed(row) for row in self._execute(conn, params)[0]]

    def maybe(self, conn: Connection, **params: Any) -> R | None:
        """The first row, or None."""
        rows, _ = self._execute(conn, params)
        return self._typed(rows[0]) if rows else None

    def one(self, conn: Connection, **params: Any) -> R:
        """The first row. Raises NoRow."""
        found = self.maybe(conn, **params)
        if found is None:
            raise NoRow(self.sql)
        return found

    def run(self, conn: Connection, **params: Any) -> int:
        """How many rows it touched."""
        return self._execute(conn, params)[1]

    def _execute(self, conn: Connection, params: dict[str, Any]) -> tuple[list[list[Any]], int]:
        sql, values = self._parsed = self._parsed or cast("Any", to_statement)(self.sql)
        return conn.execute(self, sql, values(params))

    def _typed(self, row: list[Any]) -> R:
        if self.row is None:
            raise TypeError("this statement gives no rows")
        for index, kind in self._nested:
            row[index] = msgspec.convert(row[index], kind)
        return self.row(*row)


def json_of(row: str, kind: type[msgspec.Struct]) -> str:
    """SQL for the JSON of a row, of those of its columns that `kind` has as fields."""
    columns = ", ".join(f"'{field.name}', {row}.{field.name}" for field in msgspec.structs.fields(kind))
    return f"json_build_object({columns})"


def _has_struct(kind: Any) -> bool:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return True
    return any(_has_struct(part) for part in get_args(kind))


class Pool:
    """Connections, at most `size`; the one given back last is lent first, so that few are kept warm.

    Who finds none free is served in turn, be it a thread or what runs on the loop.
    """

    def __init__(self, size: int):
        self._free: list[Connection] = []
        self._lock = threading.Lock()
        self._places = size
        self._waiting: deque[Future[None]] = deque()
        self._hangs_until = 0.0

    def take(self) -> Connection:
        """A connection whose server answers. Raises DatabaseUnavailable."""
        self._enter()
        try:
            return self._warm() or self._open()
        except BaseException:
            self._leave()
            raise

    def give_back(self, conn: Connection) -> None:
        """Take a connection back; a broken one is closed, with all that idled: their server went with it."""
        if conn.broken or not conn.is_idle:
            conn.close()
            self.close()
        else:
            conn.used_at = time.monotonic()
            self._free.append(conn)
        self._leave()

    def close(self) -> None:
        """Close what idles."""
        while (conn := self._pop()) is not None:
            conn.close()

    def _enter(self) -> None:
        with self._lock:
            if self._places:
                self._places -= 1
                return
            place = Future[None]()
            self._waiting.append(place)
        try:
            running.result(place, ACQUIRE_SECONDS)
        except TimeoutError:
            pass
        except BaseException:
            if not place.cancel():
                self._leave()
            raise
        if place.cancel():  # and else it was given just as time was up
            raise DatabaseUnavailable

    def _leave(self) -> None:
        with self._lock:
            while self._waiting:
                place = self._waiting.popleft()
                if place.set_running_or_notify_cancel():
                    place.set_result(None)
                    return
            self._places += 1

    def _warm(self) -> Connection | None:
        conn = self._pop()
        if conn is None:
            return None
        alive = False
        try:
            conn.attach()
        except OSError:
            return None  # the loop is busy, and closes it: that says nothing of the others
        try:
            alive = conn.is_alive()
        finally:
            if not alive:
                conn.close()
        if not alive:
            self.close()  # they idled longer still
            return None
        return conn

    def _pop(self) -> Connection | None:
        try:
            return self._free.pop()
        except IndexError:
            return None

    def _open(self) -> Connection:
        began = time.monotonic()
        if began < self._hangs_until:
            raise DatabaseUnavailable
        try:
            conn = Connection(_open_connection())
        except CantConnect:
            if time.monotonic() - began > SLOW_CONNECT_SECONDS:
                self._hangs_until = time.monotonic() + SLOW_CONNECT_SECONDS
            raise DatabaseUnavailable from None
        conn.attach()
        return conn


_pool: Pool | None = None
_pool_lock: Final = threading.Lock()
# Threads of their own: those that wait for a connection must not keep out who opens one.
_open_connection: Final = running.blocking(
    open_connection, ThreadPoolExecutor(OPEN_AT_ONCE, thread_name_prefix="connect")
)


_outer: Final[ContextVar[Connection | None]] = ContextVar("outer", default=None)


def _the_pool() -> Pool:
    global _pool
    if _pool is None:
        with _pool_lock:
            if _pool is None:
                _pool = Pool(settings().db_pool_size)
    return _pool


def disconnect() -> None:
    """Close the connections that idle. The next use opens new ones, by the settings of then."""
    global _pool
    pool, _pool = _pool, None
    if pool is not None:
        pool.close()


@contextmanager
def connection() -> Generator[Connection, None, None]:
    """A connection; each statement on it commits by itself. Raises DatabaseUnavailable."""
    outer = _outer.get()
    if outer is not None:
        with outer.savepoint():
            yield outer
        return
    pool = _the_pool()
    conn = pool.take()
    try:
        yield conn
    finally:
        pool.give_back(conn)


@contextmanager
def unlimited() -> Generator[Connection, None, None]:
    """A connection of its own without time limits, for migrations and rebuilds. Raises DatabaseUnavailable."""
    try:
        conn = Connection(open_connection(limited=False))
    except CantConnect:
        raise DatabaseUnavailable from None
    try:
        yield conn
    finally:
        conn.close()


@contextmanager
def transaction() -> Generator[Connection, None, None]:
    """A connection in a transaction: committed at the end, rolled back if anything is raised."""
    with connection() as conn:
        if conn is _outer.get():
            yield conn  # in its savepoint
            return
        conn.begin()
        try:
            yield conn
        except BaseException:
            conn.rollback()
            raise
        conn.commit()


@contextmanager
def together() -> Generator[Connection, None, None]:
    """What is done inside, in however many transactions, is one: each of them a savepoint of it."""
    with transaction() as conn:
        token = _outer.set(conn)
        try:
            yield conn
        finally:
            _outer.reset(token)


def retrying(act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`act`, again up to twice when the database gave up on it to end a deadlock. `act` is a whole transaction."""
    for seconds in RETRY_SECONDS:
        try:
            return act(*args, **kwargs)
        except Contended:
            # At once it would take again, before the other wakes, the very lock that the other waits for.
            running.sleep(seconds)
    return act(*args, **kwargs)
