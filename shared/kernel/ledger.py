"""The ledger of a request: trips to each store, statements in them, and the time they took.

It is logged with the request, sent as `Server-Timing` where the environment is local, and held to budgets by tests.
"""

from contextvars import ContextVar

import msgspec


class Entry(msgspec.Struct):
    """What one store was asked in one request."""

    trips: int = 0
    statements: int = 0
    seconds: float = 0.0


Ledger = dict[str, Entry]
_current: ContextVar[Ledger | None] = ContextVar("ledger", default=None)


def open_ledger() -> Ledger:
    """Start counting for this request, in this context and in what is run from it."""
    ledger: Ledger = {}
    _current.set(ledger)
    return ledger


def record(store: str, seconds: float, *, statements: int = 1, trips: int = 1) -> None:
    """Count a trip to `store` (postgres, redis, graph, storage, pubsub) if a request is being counted."""
    ledger = _current.get()
    if ledger is None:
        return
    entry = ledger.get(store)
    if entry is None:
        entry = ledger[store] = Entry()
    entry.trips += trips
    entry.statements += statements
    entry.seconds += seconds


def server_timing(ledger: Ledger) -> str:
    """The `Server-Timing` field (W3C Server Timing): milliseconds by store, trips and statements as description."""
    return ", ".join(
        f'{store};dur={e.seconds * 1000:.2f};desc="{e.trips} trips, {e.statements} statements"'
        for store, e in ledger.items()
    )
