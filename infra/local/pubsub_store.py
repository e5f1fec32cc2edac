"""What the broker keeps, in SQLite: topics, subscriptions, deliveries under way, dead letters, a history.

A message is kept once, with a delivery for each subscription. `publish` returns after the commit, so that what was
confirmed outlives a kill -9 of the broker.
"""

import json
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HISTORY = 10_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS topics (name TEXT PRIMARY KEY, config BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS subscriptions (name TEXT PRIMARY KEY, topic TEXT NOT NULL, config BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS messages (
  id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, data BLOB NOT NULL, attributes TEXT NOT NULL,
  ordering_key TEXT NOT NULL, published_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS deliveries (
  subscription TEXT NOT NULL, message INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, due_at REAL NOT NULL,
  PRIMARY KEY (subscription, message)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (subscription, due_at);
CREATE INDEX IF NOT EXISTS deliveries_message ON deliveries (message);
CREATE TABLE IF NOT EXISTS dead_letters (
  id INTEGER PRIMARY KEY AUTOINCREMENT, message INTEGER NOT NULL, topic TEXT NOT NULL, subscription TEXT NOT NULL,
  data BLOB NOT NULL, attributes TEXT NOT NULL, attempts INTEGER NOT NULL, reason TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS history (
  id INTEGER PRIMARY KEY AUTOINCREMENT, message INTEGER NOT NULL, type TEXT NOT NULL, subscription TEXT NOT NULL,
  attempts INTEGER NOT NULL, outcome TEXT NOT NULL, reason TEXT NOT NULL, ms REAL NOT NULL, at REAL NOT NULL);
"""


@dataclass(frozen=True)
class Delivery:
    """A message due for a subscription."""

    subscription: str
    id: int
    topic: str
    data: bytes
    attributes: dict[str, str]
    ordering_key: str
    published_at: float
    attempts: int


@dataclass(frozen=True)
class Outcome:
    """How one attempt ended. `retry_at` None: done with, delivered or dead."""

    delivery: Delivery
    outcome: str
    reason: str
    ms: float
    retry_at: float | None


class Store:
    """The broker's state. Used by one thread; each method that changes something is one commit."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(folder / "pubsub.sqlite3", isolation_level=None)
        # WAL with NORMAL survives the death of the process; only that of the machine can lose the last commits.
        self._db.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; {_SCHEMA}")

    def topics(self) -> dict[str, bytes]:
        """Every topic's name and configuration."""
        return dict(self._db.execute("SELECT name, config FROM topics ORDER BY name"))

    def subscriptions(self) -> dict[str, tuple[str, bytes]]:
        """Every subscription's name, topic and configuration."""
        return {
            n: (t, c) for n, t, c in self._db.execute("SELECT name, topic, config FROM subscriptions ORDER BY name")
        }

    def put_topic(self, name: str, config: bytes) -> None:
        """Make or change a topic."""
        self._db.execute("INSERT OR REPLACE INTO topics VALUES (?, ?)", (name, config))

    def drop_topic(self, name: str) -> None:
        """Delete a topic; its subscriptions stay, as with the real service."""
        self._db.execute("DELETE FROM topics WHERE name = ?", (name,))

    def put_subscription(self, name: str, topic: str, config: bytes) -> None:
        """Make or change a subscription."""
        self._db.execute("INSERT OR REPLACE INTO subscriptions VALUES (?, ?, ?)", (name, topic, config))

    def drop_subscription(self, name: str) -> None:
        """Delete a subscription with what it had still to deliver."""
        with self._transaction():
            self._db.execute("DELETE FROM subscriptions WHERE name = ?", (name,))
            self._db.execute("DELETE FROM deliveries WHERE subscription = ?", (name,))

    def publish(self, messages: Iterable[tuple[str, bytes, dict[str, str], str]], delay: float = 0.0) -> list[int]:
        """Keep messages (topic, data, attributes, ordering key) and what is to be delivered of them; their ids."""
        now = time.time()
        ids: list[int] = []
        with self._transaction():
            for topic, data, attributes, key in messages:
                cursor = self._db.execute(
                    "INSERT INTO messages (topic, data, attributes, ordering_key, published_at) VALUES (?, ?, ?, ?, ?)",
                    (topic, data, json.dumps(attributes), key, now),
                )
                message = cursor.lastrowid or 0
                ids.append(message)
                wanted = self._db.execute(
                    "INSERT INTO deliveries (subscription, message, due_at)"
                    " SELECT name, ?, ? FROM subscriptions WHERE topic = ?",
                    (message, now + delay, topic),
                )
                if not wanted.rowcount:
                    self._db.execute("DELETE FROM messages WHERE id = ?", (message,))
        return ids

    def take_due(self, subscription: str, limit: int, lease_seconds: float) -> list[Delivery]:
        """Deliveries that are due, leased: they come again after `lease_seconds` unless settled before."""
        if limit <= 0:
            return []
        now = time.time()
        rows = self._db.execute(
            "SELECT d.message, m.topic, m.data, m.attributes, m.ordering_key, m.published_at, d.attempts"
            " FROM deliveries d JOIN messages m ON m.id = d.message"
            " WHERE d.subscription = ? AND d.due_at <= ? ORDER BY d.due_at LIMIT ?",
            (subscription, now, limit),
        ).fetchall()
        if not rows:
            return []
        with self._transaction():
            self._db.executemany(
                "UPDATE deliveries SET due_at = ?, attempts = attempts + 1 WHERE subscription = ? AND message = ?",
                [(now + lease_seconds, subscription, row[0]) for row in rows],
            )
        return [
            Delivery(subscription, i, topic, data, json.loads(attributes), key, published, attempts + 1)
            for i, topic, data, attributes, key, published, attempts in rows
        ]

    def next_due(self, subscriptions: Iterable[str]) -> float | None:
        """When the next delivery of any of `subscriptions` is due, in seconds since the epoch."""
        times = [
            self._db.execute("SELECT min(due_at) FROM deliveries WHERE subscription = ?", (name,)).fetchone()[0]
            for name in subscriptions
        ]
        return min((at for at in times if at is not None), default=None)

    def lease(self, subscription: str, messages: Iterable[int], seconds: float) -> None:
        """Put off deliveries; 0 seconds make them due at once."""
        due = time.time() + seconds
        with self._transaction():
            self._db.executemany(
                "UPDATE deliveries SET due_at = ? WHERE subscription = ? AND message = ?",
                [(due, subscription, message) for message in messages],
            )

    def acknowledge(self, subscription: str, messages: Iterable[int]) -> None:
        """Done with."""
        with self._transaction():
            for message in messages:
                self._settle(subscription, message)

    def record(self, outcomes: Iterable[Outcome]) -> None:
        """Settle attempts and keep them in the history."""
        now = time.time()
        with self._transaction():
            for done in outcomes:
                one = done.delivery
                if done.retry_at is None:
                    self._settle(one.subscription, one.id)
                else:
                    self._db.execute(
                        "UPDATE deliveries SET due_at = ? WHERE subscription = ? AND message = ?",
                        (done.retry_at, one.subscription, one.id),
                    )
                if done.outcome == "dead":
                    self._db.execute(
                        "INSERT INTO dead_letters"
                        " (message, topic, subscription, data, attributes, attempts, reason, at)"
                        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                        (one.id, one.topic, one.subscription, one.data, json.dumps(one.attributes), one.attempts,
                         done.reason, now),
                    )  # fmt: skip
                self._db.execute(
                    "INSERT INTO history (message, type, subscription, attempts, outcome, reason, ms, at)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (one.id, one.attributes.get("type", one.topic.rpartition("/")[2]), one.subscription, one.attempts,
                     done.outcome, done.reason, done.ms, now),
                )  # fmt: skip
            self._db.execute("DELETE FROM history WHERE id <= (SELECT max(id) FROM history) - ?", (HISTORY,))

    def history(self, type: str | None, limit: int) -> list[dict[str, Any]]:
        """The latest attempts, newest first."""
        rows = self._db.execute(
            "SELECT message, type, attempts, subscription, outcome, reason, ms, at FROM history"
            " WHERE ? IS NULL OR type = ? ORDER BY id DESC LIMIT ?",
            (type, type, limit),
        )
        return [
            {"id": str(i), "type": kind, "attempts": attempts, "function": name.rpartition("--")[2],
             "outcome": outcome, "reason": reason, "ms": round(ms, 1), "at": int(at * 1000)}
            for i, kind, attempts, name, outcome, reason, ms, at in rows
        ]  # fmt: skip

    def dead_letters(self, limit: int) -> list[dict[str, Any]]:
        """Dead letters, newest first."""
        rows = self._db.execute(
            "SELECT id, attributes, topic, subscription, reason, attempts, at, data FROM dead_letters"
            " ORDER BY id DESC LIMIT ?",
            (limit,),
        )
        return [
            {"id": str(i), "type": json.loads(attributes).get("type", topic.rpartition("/")[2]),
             "subscription": name.rpartition("/")[2], "function": name.rpartition("--")[2], "reason": reason,
             "attempts": attempts, "at": int(at * 1000), "data": bytes(data[:500]).decode("utf-8", "replace")}
            for i, attributes, topic, name, reason, attempts, at, data in rows
        ]  # fmt: skip

    def redrive(self, id: int | None) -> int:
        """Deliver dead letters anew, all or one; answers how many."""
        rows = self._db.execute(
            "SELECT id, topic, subscription, data, attributes FROM dead_letters WHERE ? IS NULL OR id = ?", (id, id)
        ).fetchall()
        now = time.time()
        with self._transaction():
            for letter, topic, subscription, data, attributes in rows:
                cursor = self._db.execute(
                    "INSERT INTO messages (topic, data, attributes, ordering_key, published_at)"
                    " VALUES (?, ?, ?, '', ?)",
                    (topic, data, attributes, now),
                )
                self._db.execute("INSERT INTO deliveries VALUES (?, ?, 0, ?)", (subscription, cursor.lastrowid, now))
                self._db.execute("DELETE FROM dead_letters WHERE id = ?", (letter,))
        return len(rows)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _settle(self, subscription: str, message: int) -> None:
        self._db.execute("DELETE FROM deliveries WHERE subscription = ? AND message = ?", (subscription, message))
        self._db.execute(
            "DELETE FROM messages WHERE id = ? AND NOT EXISTS (SELECT 1 FROM deliveries WHERE message = ?)",
            (message, message),
        )

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._db)


class _Transaction:
    def __init__(self, db: sqlite3.Connection):
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._db.execute("COMMIT" if kind is None else "ROLLBACK")
