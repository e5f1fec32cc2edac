"""Postgres by pg8000: statements prepared once a connection, a pool that outlives the server, faults by their meaning.

A `Statement` on a connection of `connection()` is a transaction of its own and one round trip. pg8000's connections
are for one thread at a time, so one is lent to one caller.
"""

import asyncio
import contextvars
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final, Generic, ParamSpec, TypeVar, cast, overload
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
import pg8000.native  # pyright: ignore[reportMissingTypeStubs]
from pg8000.exceptions import DatabaseError as ServerError  # pyright: ignore[reportMissingTypeStubs]
from pg8000.exceptions import InterfaceError  # pyright: ignore[reportMissingTypeStubs]

from shared.kernel import ledger
from shared.kernel.config import settings
from shared.kernel.problems import Unavailable

CONNECT_SECONDS: Final = 3
ACQUIRE_SECONDS: Final = 5.0
STATEMENT_MS: Final = 8_000
LOCK_MS: Final = 3_000
IDLE_IN_TRANSACTION_MS: Final = 15_000
# A connection that idled longer is asked before it is lent: its server may have gone meanwhile.
CHECK_AFTER_SECONDS: Final = 2.0

# Any: pg8000 has no types of its own.
Raw = Any

R = TypeVar("R")
T = TypeVar("T")
P = ParamSpec("P")

_UNIQUE_VIOLATION: Final = "23505"
_DEADLOCK: Final = "40P01"
_SERIALIZATION: Final = "40001"
# 57P01…3: the server is being shut down or started; 53300: no connection left; 08: connection exceptions.
_GONE: Final = ("57P01", "57P02", "57P03", "53300")
_TIMED_OUT: Final = ("57014", "55P03")


class DatabaseUnavailable(Unavailable):
    """503: Postgres can't be reached, or doesn't answer in time."""

    def __init__(self) -> None:
        super().__init__("postgres")


class UniqueViolation(Exception):
    """A row with this key is there already; `constraint` names the index."""

    def __init__(self, constraint: str):
        super().__init__(constraint)
        self.constraint = constraint


class Contended(Exception):
    """Deadlock or serialisation failure: nothing was done; `retrying` does it again."""


class NoRow(Exception):
    """A statement that must give a row gave none."""


class Connection:
    """A connection as lent to one caller: its prepared statements, and when it was last used."""

    __slots__ = ("_prepared", "_raw", "broken", "used_at")

    def __init__(self, raw: Raw):
        self._raw = raw
        self._prepared: dict[int, Any] = {}
        self.broken = False
        self.used_at = time.monotonic()

    def execute(self, key: int, sql: str, params: dict[str, Any]) -> tuple[list[Any], int]:
        """Run a prepared statement; rows and row count. One round trip, two the first time on a connection."""
        started = time.perf_counter()
        try:
            prepared = self._prepared.get(key)
            if prepared is None:
                prepared = self._prepared[key] = self._raw.prepare(sql)
            rows: list[Any] = prepared.run(**params) or []
            return rows, prepared._context.row_count
        except ServerError as error:
            raise self._meaning(error) from None
        except (InterfaceError, OSError) as error:
            raise self._lost(error) from None
        finally:
            ledger.record("postgres", time.perf_counter() - started)

    def command(self, sql: str) -> None:
        """Run plain SQL of ours without parameters: BEGIN, COMMIT, ROLLBACK, a migration's statements."""
        started = time.perf_counter()
        try:
            self._raw.run(sql)
        except ServerError as error:
            raise self._meaning(error) from None
        except (InterfaceError, OSError) as error:
            raise self._lost(error) from None
        finally:
            ledger.record("postgres", time.perf_counter() - started)

    def _lost(self, error: Exception) -> Exception:
        # pg8000 has one InterfaceError for a lost connection and for a mistake of ours, told apart by its text.
        if isinstance(error, InterfaceError) and not any(text in str(error) for text in ("network", "connection")):
            return error
        self.broken = True
        return DatabaseUnavailable()

    def _meaning(self, error: ServerError) -> Exception:
        fields: dict[str, str] = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
        state = fields.get("C", "")
        if state == _UNIQUE_VIOLATION:
            return UniqueViolation(fields.get("n", ""))
        if state in (_DEADLOCK, _SERIALIZATION):
            return Contended(state)
        if state in _GONE or state.startswith("08"):
            self.broken = True
            return DatabaseUnavailable()
        return DatabaseUnavailable() if state in _TIMED_OUT else error

    def is_alive(self) -> bool:
        """Ask the server."""
        try:
            self._raw.run("SELECT 1")
        except (ServerError, InterfaceError, OSError):
            return False
        return True

    def close(self) -> None:
        """Close it, whatever state it is in."""
        try:
            self._raw.close()
        except (ServerError, InterfaceError, OSError):
            pass  # it was gone already


_keys = itertools.count()
# Wide enough that what waits for one store leaves threads for the others; few of them ever run at once.
_threads: Final = ThreadPoolExecutor(64, thread_name_prefix="work")


class Statement(Generic[R]):
    """A statement with `:name` parameters; its rows as `row`, whose fields are filled in the order of the columns."""

    @overload
    def __init__(self: "Statement[None]", sql: str) -> None: ...
    @overload
    def __init__(self, sql: str, row: type[R]) -> None: ...
    def __init__(self, sql: str, row: type[R] | None = None):
        self.sql = sql
        self.row = row
        self._key = next(_keys)
        fields: Any = ()
        if row is not None and issubclass(row, msgspec.Struct):
            fields = msgspec.structs.fields(cast("type[msgspec.Struct]", row))
        self._nested = [(i, field.type) for i, field in enumerate(fields) if "Row" in str(field.type)]

    def all(self, conn: Connection, **params: Any) -> list[R]:
        """Every row."""
        rows, _ = conn.execute(self._key, self.sql, params)
        return [self._typed(row) for row in rows]

    def maybe(self, conn: Connection, **params: Any) -> R | None:
        """The first row, or None."""
        rows, _ = conn.execute(self._key, self.sql, params)
        return self._typed(rows[0]) if rows else None

    def one(self, conn: Connection, **params: Any) -> R:
        """The first row. Raises NoRow."""
        found = self.maybe(conn, **params)
        if found is None:
            raise NoRow(self.sql)
        return found

    def run(self, conn: Connection, **params: Any) -> int:
        """How many rows it touched."""
        return conn.execute(self._key, self.sql, params)[1]

    def _typed(self, row: list[Any]) -> R:
        if self.row is None:
            raise TypeError("this statement gives no rows")
        for index, kind in self._nested:
            row[index] = msgspec.convert(row[index], kind)
        return self.row(*row)


class Pool:
    """Connections, at most `size`; the one given back last is lent first, so that few are kept warm."""

    def __init__(self, connect: Callable[[], Raw], size: int):
        self._connect = connect
        self._free: list[Connection] = []
        self._places = threading.BoundedSemaphore(size)

    def take(self) -> Connection:
        """A connection whose server answers. Raises DatabaseUnavailable."""
        if not self._places.acquire(timeout=ACQUIRE_SECONDS):
            raise DatabaseUnavailable
        try:
            while self._free:
                try:
                    conn = self._free.pop()
                except IndexError:
                    break
                if time.monotonic() - conn.used_at < CHECK_AFTER_SECONDS or conn.is_alive():
                    return conn
                conn.close()
            return Connection(self._connect())
        except (ServerError, InterfaceError, OSError):
            self._places.release()
            raise DatabaseUnavailable from None
        except BaseException:
            self._places.release()
            raise

    def give_back(self, conn: Connection) -> None:
        """Take a connection back; a broken one is closed, with all that idled: their server went with it."""
        if conn.broken:
            conn.close()
            while self._free:
                try:
                    self._free.pop().close()
                except IndexError:
                    break
        else:
            conn.used_at = time.monotonic()
            self._free.append(conn)
        self._places.release()


def _connect_by_url() -> Raw:
    url = urlsplit(settings().database_url)
    mode = parse_qs(url.query).get("sslmode", ["prefer"])[-1]
    conn: Raw = pg8000.native.Connection(
        unquote(url.username or "postgres"),
        host=url.hostname or "127.0.0.1",
        port=url.port or 5432,
        database=unquote(url.path[1:]) or "postgres",
        password=unquote(url.password or ""),
        timeout=CONNECT_SECONDS,
        tcp_keepalive=True,
        ssl_context=ssl.create_default_context() if mode in ("require", "verify-ca", "verify-full") else None,
        application_name=settings().instance_id,
    )
    # The connect time-out must not cut a slow statement: the server's own time-out ends it, a little earlier.
    conn._usock.settimeout(STATEMENT_MS / 1000 + CONNECT_SECONDS)
    conn._usock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return conn


_connector: Any = None


def _connect_by_cloud_sql() -> Raw:
    # 615 ms and 66 MiB to import: only who is told to use it pays.
    from google.cloud.sql.connector import Connector

    global _connector
    if _connector is None:
        _connector = Connector(refresh_strategy="lazy")
    password = settings().db_password
    dbapi = _connector.connect(
        settings().cloud_sql_instance,
        "pg8000",
        user=settings().db_user,
        password=password or None,
        db=settings().db_name,
        enable_iam_auth=not password,
    )
    # The connector makes a DB-API connection; the native one is the same class below, without its transactions.
    dbapi.__class__ = pg8000.native.Connection
    dbapi._context = None
    return dbapi


def _connect() -> Raw:
    conn = _connect_by_cloud_sql() if settings().cloud_sql_instance else _connect_by_url()
    conn.run(
        f"SET statement_timeout = {STATEMENT_MS}; SET lock_timeout = {LOCK_MS};"
        f" SET idle_in_transaction_session_timeout = {IDLE_IN_TRANSACTION_MS}"
    )
    return conn


_pool: Pool | None = None
_pool_lock = threading.Lock()


def _the_pool() -> Pool:
    global _pool
    if _pool is None:
        with _pool_lock:
            if _pool is None:
                _pool = Pool(_connect, settings().db_pool_size)
    return _pool


@contextmanager
def connection() -> Generator[Connection, None, None]:
    """A connection; each statement on it commits by itself. Raises DatabaseUnavailable."""
    pool = _the_pool()
    conn = pool.take()
    try:
        yield conn
    finally:
        pool.give_back(conn)


@contextmanager
def transaction() -> Generator[Connection, None, None]:
    """A connection in a transaction: committed at the end, rolled back if anything is raised."""
    with connection() as conn:
        conn.command("BEGIN")
        try:
            yield conn
        except BaseException:
            if not conn.broken:
                try:
                    conn.command("ROLLBACK")
                except Exception:
                    conn.broken = True
            raise
        conn.command("COMMIT")


def retrying(act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`act`, again up to twice when the database gave up on it to end a deadlock. `act` is a whole transaction."""
    for _ in range(2):
        try:
            return act(*args, **kwargs)
        except Contended:
            continue
    return act(*args, **kwargs)


async def in_thread(act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run blocking code from an `async def` read, with this request's context (ledger, trace)."""
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(_threads, lambda: context.run(act, *args, **kwargs))
