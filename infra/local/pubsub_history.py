"""What the broker remembers for the console: how its latest deliveries went, and the dead letters.

A delivery is one row of the history, whatever number of attempts it takes: its last outcome stands. Dead letters are
kept until they are sent again.
"""

import sqlite3
from dataclasses import dataclass
from typing import Any, Final

from shared.kernel.clock import now_ms

KEPT: Final = 10_000
EXCERPT_BYTES: Final = 500
# An event's type is an attribute of its message; a message without is called after its topic.
_TYPE: Final = "coalesce(json_extract(attributes, '$.type'), substr(topic, instr(topic, '/topics/') + 8))"
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS history (
  id INTEGER PRIMARY KEY AUTOINCREMENT, message INTEGER NOT NULL, subscription TEXT NOT NULL, type TEXT NOT NULL,
  attempts INTEGER NOT NULL, outcome TEXT NOT NULL, reason TEXT NOT NULL, ms REAL NOT NULL, at INTEGER NOT NULL,
  UNIQUE (message, subscription));
CREATE INDEX IF NOT EXISTS history_type ON history (type, id);
CREATE TABLE IF NOT EXISTS dead_letters (
  id INTEGER PRIMARY KEY AUTOINCREMENT, message INTEGER NOT NULL, topic TEXT NOT NULL, subscription TEXT NOT NULL,
  data BLOB NOT NULL, attributes TEXT NOT NULL, ordering_key TEXT NOT NULL, attempts INTEGER NOT NULL,
  reason TEXT NOT NULL, at INTEGER NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter: what it takes to send it again."""

    id: int
    topic: str
    subscription: str
    data: bytes
    attributes: str
    ordering_key: str


def record(
    db: sqlite3.Connection, subscription: int, message: int, outcome: str, reason: str, ms: float | None
) -> None:
    """Keep how an attempt ended, if the delivery is still there. Without `ms` it took as long as it was leased."""
    now = now_ms()
    db.execute(
        "INSERT OR REPLACE INTO history (message, subscription, type, attempts, outcome, reason, ms, at)"
        f" SELECT m.id, s.name, {_TYPE}, attempts, ?, ?, coalesce(?, ? - leased_at, 0), ?"
        " FROM deliveries d JOIN messages m ON m.id = message JOIN subscriptions s ON s.id = subscription"
        " WHERE message = ? AND subscription = ?",
        (outcome, reason, ms, now, now, message, subscription),
    )


def trim(db: sqlite3.Connection) -> None:
    """Forget all but the latest."""
    db.execute("DELETE FROM history WHERE id <= (SELECT max(id) FROM history) - ?", (KEPT,))


def events(db: sqlite3.Connection, type: str | None, limit: int) -> list[dict[str, Any]]:
    """The latest deliveries, or those of one type; newest first."""
    where, arguments = ("", ()) if type is None else ("WHERE type = ?", (type,))
    rows = db.execute(
        "SELECT message, type, attempts, subscription, outcome, reason, ms, at FROM history"
        f" {where} ORDER BY id DESC LIMIT ?",
        (*arguments, limit),
    )
    return [
        {
            "id": str(id),
            "type": type,
            "attempts": attempts,
            "function": _function(subscription),
            "outcome": outcome,
            "reason": reason,
            "ms": round(ms, 1),
            "at": at,
        }
        for id, type, attempts, subscription, outcome, reason, ms, at in rows
    ]


def bury(db: sqlite3.Connection, subscription: int, message: int, reason: str) -> None:
    """Make a dead letter of a delivery."""
    db.execute(
        "INSERT INTO dead_letters"
        " (message, topic, subscription, data, attributes, ordering_key, attempts, reason, at)"
        " SELECT m.id, topic, s.name, data, attributes, ordering_key, attempts, ?, ?"
        " FROM deliveries d JOIN messages m ON m.id = message JOIN subscriptions s ON s.id = subscription"
        " WHERE message = ? AND subscription = ?",
        (reason, now_ms(), message, subscription),
    )


def dead_letters(db: sqlite3.Connection, limit: int) -> list[dict[str, Any]]:
    """The dead letters, newest first, each with the beginning of its data."""
    rows = db.execute(
        f"SELECT id, message, {_TYPE}, subscription, reason, attempts, at,"
        " substr(data, 1, ?) FROM dead_letters ORDER BY id DESC LIMIT ?",
        (EXCERPT_BYTES, limit),
    )
    return [
        {
            "id": str(id),
            "message": str(message),
            "type": type,
            "subscription": _short(subscription),
            "function": _function(subscription),
            "reason": reason,
            "attempts": attempts,
            "at": at,
            "data": data.decode("utf-8", "replace"),
        }
        for id, message, type, subscription, reason, attempts, at, data in rows
    ]


def letters(db: sqlite3.Connection, id: int | None, after: int, limit: int) -> list[Letter]:
    """The dead letters whose number is above `after`, or just the one asked for; oldest first."""
    rows = db.execute(
        "SELECT id, topic, subscription, data, attributes, ordering_key FROM dead_letters"
        " WHERE id > ? AND (? IS NULL OR id = ?) ORDER BY id LIMIT ?",
        (after, id, id, limit),
    )
    return [Letter(*row) for row in rows]


def dead_letter_count(db: sqlite3.Connection) -> int:
    """How many dead letters there are."""
    return db.execute("SELECT count(*) FROM dead_letters").fetchone()[0]


def forget(db: sqlite3.Connection, id: int) -> None:
    """A dead letter was sent again."""
    db.execute("DELETE FROM dead_letters WHERE id = ?", (id,))


def _short(name: str) -> str:
    return name.rpartition("/")[2]


def _function(subscription: str) -> str:
    return _short(subscription).rpartition("--")[2]
