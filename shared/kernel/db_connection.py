"""A connection to Postgres as lent to one caller, and what its faults mean."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final, cast

import msgspec
from pg8000.converters import make_params  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]
from pg8000.exceptions import DatabaseError as ServerError  # pyright: ignore[reportMissingTypeStubs]
from pg8000.exceptions import InterfaceError  # pyright: ignore[reportMissingTypeStubs]

from shared.kernel import ledger, running
from shared.kernel.db_open import Raw, Stream, patience
from shared.kernel.problems import Unavailable

# A connection that idled longer is asked before it is lent: the network between may have forgotten it.
CHECK_AFTER_SECONDS: Final = 5.0
CHECK_SECONDS: Final = 1.0
# One that was used just now is not looked at: what ended it in between might as well have come during the statement.
TRUSTED_SECONDS: Final = 0.02

_UNIQUE_VIOLATION: Final = "23505"
# Deadlock, serialisation failure.
_UNDONE: Final = ("40P01", "40001")
# Class 08: connection exceptions; 57P: the server ends or starts; 25P03: idle in transaction for too long;
# 25006: read-only, as after a failover to another server.
_GONE: Final = ("08", "57P", "25P03", "25006")
# Class 53: out of connections, memory or disk; 57014, 55P03: a statement or a lock took too long.
_BUSY: Final = ("53", "57014", "55P03")
# A migration has changed what a prepared statement gives, or something has deallocated it.
_STALE_PLAN: Final = ("0A000", "26000")
_IDLE, _FAILED = b"I", b"E"


class DatabaseUnavailable(Unavailable):
    """503: Postgres can't be reached, or doesn't answer in time."""

    def __init__(self) -> None:
        super().__init__("postgres")


class Contended(DatabaseUnavailable):
    """Deadlock or serialisation failure: nothing was done; `retrying` does it again."""


class DatabaseError(Exception):
    """Postgres refused a statement. `sqlstate`: its error code; `constraint`: the constraint's name, if one did it."""

    def __init__(self, sqlstate: str, message: str, constraint: str = ""):
        super().__init__(f"{sqlstate}: {message}")
        self.sqlstate = sqlstate
        self.constraint = constraint


class UniqueViolation(DatabaseError):
    """A row with this key is there already; `constraint` names the index."""


class Connection:
    """A connection as lent to one caller: its prepared statements, and when it was last used."""

    __slots__ = ("_owes_begin", "_prepared", "_raw", "_stream", "broken", "used_at")

    def __init__(self, raw: Raw):
        self._raw = raw
        self._stream: Stream = raw._sock
        self._prepared: dict[object, tuple[bytes, Any, Any]] = {}
        self._owes_begin = False
        self.broken = False
        self.used_at = time.monotonic()

    def attach(self) -> None:
        """From here on it is used by who asks: a thread, or what runs on the event loop. Raises OSError."""
        if running.is_on_loop():
            self._stream.attach()
        else:
            self._stream.detach()

    @property
    def is_idle(self) -> bool:
        """Whether it is in no transaction."""
        return self._raw._transaction_status in (None, _IDLE)

    def execute(self, key: object, sql: str, values: tuple[Any, ...]) -> tuple[list[list[Any]], int]:
        """Run the statement `sql`, prepared under `key`; rows and row count.

        One round trip, and another the first time on a connection, which the ledger leaves out.
        """
        params: tuple[Any, ...] = cast("Any", make_params)(self._raw.py_types, values)
        started = time.perf_counter()
        try:
            with self._faults():
                return self._run(key, sql, params)
        except DatabaseError as error:
            if error.sqlstate not in _STALE_PLAN or key not in self._prepared:
                raise
            if not self.is_idle:
                self.broken = True
                raise Contended from None
            del self._prepared[key]
            with self._faults():
                return self._run(key, sql, params)
        finally:
            ledger.record("postgres", time.perf_counter() - started)

    def _run(self, key: object, sql: str, params: tuple[Any, ...]) -> tuple[list[list[Any]], int]:
        raw = self._raw
        prepared = self._prepared.get(key)
        if prepared is None:
            prepared = self._prepared[key] = raw.prepare_statement(sql, ())
        name, columns, decoders = prepared
        owes_begin, self._owes_begin = self._owes_begin, False
        if owes_begin:
            raw.send_QUERY("BEGIN")
        context = raw.execute_named(name, params, columns, decoders, sql)
        if owes_begin:
            raw.handle_messages(context)  # what was read until here answered the BEGIN
        return context.rows or [], context.row_count

    def command(self, sql: str) -> None:
        """Run plain SQL of ours without parameters: COMMIT, ROLLBACK, a migration's statements."""
        if self._owes_begin:
            self._owes_begin = False
            sql = "BEGIN;" + sql
        started = time.perf_counter()
        try:
            with self._faults():
                self._raw.execute_simple(sql)
        finally:
            ledger.record("postgres", time.perf_counter() - started)

    def begin(self) -> None:
        """Start a transaction: BEGIN is sent with the next statement."""
        self._owes_begin = True

    def commit(self) -> None:
        """End the transaction. Raises RuntimeError if a failure in it was swallowed: then nothing is committed."""
        if self._owes_begin:
            self._owes_begin = False
        elif self._raw._transaction_status == _FAILED:
            self.rollback()
            raise RuntimeError("a statement of this transaction had failed: nothing was committed")
        else:
            self.command("COMMIT")

    def rollback(self) -> None:
        """Undo the transaction, if the connection still can; a broken one undoes it by ending."""
        if self._owes_begin:
            self._owes_begin = False
        elif not self.broken:
            try:
                self.command("ROLLBACK")
            except (DatabaseError, DatabaseUnavailable):
                self.broken = True

    @contextmanager
    def savepoint(self) -> Generator[None, None, None]:
        """What is done inside is undone if anything is raised, and the transaction goes on."""
        self.command("SAVEPOINT inner_one")
        try:
            yield
        except BaseException:
            if not self.broken:
                self.command("ROLLBACK TO SAVEPOINT inner_one; RELEASE SAVEPOINT inner_one")
            raise
        self.command("RELEASE SAVEPOINT inner_one")

    @contextmanager
    def _faults(self) -> Generator[None, None, None]:
        try:
            yield
        except ServerError as error:
            raise self._meaning(error) from None
        except (InterfaceError, OSError):
            self.broken = True
            raise DatabaseUnavailable from None
        except BaseException:
            # Half an answer may be left unread: the next caller must not get it.
            self.broken = True
            raise

    def _meaning(self, error: ServerError) -> Exception:
        # Severity is localised; C is the SQLSTATE, M the message, n the constraint. D, which quotes values, stays out.
        fields = msgspec.convert(error.args[0], dict[str, str])
        state = fields.get("C", "")
        if state == _UNIQUE_VIOLATION:
            return UniqueViolation(state, fields.get("M", ""), fields.get("n", ""))
        if state in _UNDONE:
            return Contended()
        if state.startswith(_BUSY):
            return DatabaseUnavailable()
        if state.startswith(_GONE):
            self.broken = True
            return DatabaseUnavailable()
        return DatabaseError(state, fields.get("M", ""), fields.get("n", ""))

    def is_alive(self) -> bool:
        """Whether its server is there: nothing waits to be read, and after a longer pause the server was asked."""
        idle = time.monotonic() - self.used_at
        if self._stream.has_ended:
            return False
        if idle < TRUSTED_SECONDS:
            return True
        # An idle connection has something to read when the server has ended it, or has a notice for us.
        if idle < CHECK_AFTER_SECONDS and not self._stream.is_disturbed:
            return True
        try:
            self._stream.set_patience(CHECK_SECONDS)
            self._raw.execute_simple("")
            self._stream.set_patience(patience(limited=True))
        except (ServerError, InterfaceError, OSError):
            return False
        return True

    def close(self) -> None:
        """Close it, whatever state it is in, or have the loop that watches it do so soon."""
        self._stream.close_by(self._close)

    def _close(self) -> None:
        try:
            self._raw.close()
        except (ServerError, InterfaceError, OSError, ValueError):
            pass  # it was gone already
