"""What the broker keeps, in SQLite: topics, subscriptions, messages and their deliveries.

A message is kept once, with a delivery for each subscription, until the last of them is settled. WAL with
synchronous=NORMAL: what was committed outlives a kill -9 of the process; only the death of the machine can take the
last commits. Everything runs in the event loop's thread: a commit takes tens of microseconds, and handing it to
another thread and back takes longer. Times are milliseconds since the epoch, UTC.
"""

import asyncio
import json
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from infra.local import pubsub_history as history
from shared.kernel.clock import now_ms

log = logging.getLogger("pubsub")
T = TypeVar("T")
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS topics (name TEXT PRIMARY KEY, config BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS subscriptions (
  id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, config BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS messages (
  id INTEGER PRIMARY KEY, topic TEXT NOT NULL, data BLOB NOT NULL, attributes TEXT NOT NULL,
  ordering_key TEXT NOT NULL, published_at INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS deliveries (
  message INTEGER NOT NULL, subscription INTEGER NOT NULL, attempts INTEGER NOT NULL, due_at INTEGER NOT NULL,
  leased_at INTEGER, PRIMARY KEY (message, subscription)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (subscription, due_at);
"""


@dataclass(frozen=True, slots=True)
class Message:
    """What is published."""

    topic: str
    data: bytes
    attributes: dict[str, str]
    ordering_key: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message leased for one attempt at one subscription. `attempts` counts this one."""

    id: int
    message: Message
    published_at: int
    attempts: int


class Store:
    """The broker's tables. What changes them runs in `write`, in groups; `take` and the reads are done at once."""

    def __init__(self, folder: Path):
        self.db = sqlite3.connect(folder / "broker.sqlite3", isolation_level=None)
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL"):
            self.db.execute(f"PRAGMA {pragma}").fetchall()
        self.db.executescript(_SCHEMA + history.SCHEMA)
        # What was under way when the last process ended is due again, and that attempt does not count.
        self.db.execute(
            "UPDATE deliveries SET due_at = ?, attempts = attempts - 1, leased_at = NULL WHERE leased_at IS NOT NULL",
            (now_ms(),),
        )
        self._last_id: int = self.db.execute("SELECT coalesce(max(id), 0) FROM messages").fetchone()[0]
        self._queued: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []

    def close(self) -> None:
        """Commit what is queued, and close the file."""
        self._commit()
        self.db.close()

    def write(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        """Do `work` in one transaction with all that is asked for in the same turn of the loop.

        The future is done after the commit. It raises sqlite3.Error if that fails: then none of it happened.
        """
        loop = asyncio.get_running_loop()
        if not self._queued:
            loop.call_soon(self._commit)
        future: asyncio.Future[T] = loop.create_future()
        self._queued.append((work, future))
        return future

    def _commit(self) -> None:
        queued, self._queued = self._queued, []
        if not queued:
            return
        try:
            self.db.execute("BEGIN IMMEDIATE")
            results = [work() for work, _ in queued]
            self.db.execute("COMMIT")
        except Exception as fault:
            log.exception("a commit of %d writes failed", len(queued))
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            for _, future in queued:
                if not future.done():
                    future.set_exception(fault)
                    future.exception()  # it is in the log, also if nobody waits for it
            return
        for (_, future), result in zip(queued, results, strict=True):
            if not future.done():  # its caller may have gone
                future.set_result(result)

    # configuration

    def topics(self) -> Iterator[tuple[str, bytes]]:
        """Name and configuration of each topic."""
        return self.db.execute("SELECT name, config FROM topics")

    def subscriptions(self) -> Iterator[tuple[int, bytes]]:
        """Number and configuration of each subscription."""
        return self.db.execute("SELECT id, config FROM subscriptions")

    def put_topic(self, name: str, config: bytes) -> None:
        """Make or change a topic."""
        self.db.execute("INSERT OR REPLACE INTO topics VALUES (?, ?)", (name, config))

    def drop_topic(self, name: str) -> None:
        """Delete a topic. What it published is delivered all the same."""
        self.db.execute("DELETE FROM topics WHERE name = ?", (name,))

    def new_subscription(self, name: str) -> int:
        """The number of a subscription to be: one of the same name that is gone has another."""
        return self.db.execute(
            "INSERT INTO subscriptions (name, config) VALUES (?, '') RETURNING id", (name,)
        ).fetchone()[0]

    def put_subscription(self, id: int, config: bytes) -> None:
        """Configure a subscription."""
        self.db.execute("UPDATE subscriptions SET config = ? WHERE id = ?", (config, id))

    def drop_subscription(self, id: int) -> None:
        """Delete a subscription with what it had still to deliver."""
        self.db.execute("DELETE FROM subscriptions WHERE id = ?", (id,))
        self.db.execute("DELETE FROM deliveries WHERE subscription = ?", (id,))
        self._drop_orphans()

    # deliveries

    def publish(self, message: Message, subscriptions: Sequence[int], due_at: int) -> int:
        """Keep a message for `subscriptions`; its id: the microseconds since the epoch, or the next number if taken."""
        id = self._last_id = max(self._last_id + 1, time.time_ns() // 1000)
        if subscriptions:
            self.db.execute(
                "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?)",
                (id, message.topic, message.data, json.dumps(message.attributes), message.ordering_key, now_ms()),
            )
            rows = [(id, subscription, due_at) for subscription in subscriptions]
            self.db.executemany("INSERT INTO deliveries VALUES (?, ?, 0, ?, NULL)", rows)
        return id

    def take(self, subscription: int, limit: int, lease_ms: int) -> list[Delivery]:
        """Deliveries that are due, the longest due first. They are due again after the lease, unless settled before."""
        now = now_ms()
        rows = self.db.execute(
            "SELECT d.message, topic, data, attributes, ordering_key, published_at, attempts + 1"
            " FROM deliveries d JOIN messages m ON m.id = d.message"
            " WHERE subscription = ? AND due_at <= ? ORDER BY due_at, d.message LIMIT ?",
            (subscription, now, limit),
        ).fetchall()
        if rows:
            leases = [(now + lease_ms, now, row[0], subscription) for row in rows]
            self.db.execute("BEGIN IMMEDIATE")
            self.db.executemany(
                "UPDATE deliveries SET attempts = attempts + 1, due_at = ?, leased_at = ?"
                " WHERE message = ? AND subscription = ?",
                leases,
            )
            self.db.execute("COMMIT")
        return [
            Delivery(id, Message(topic, data, json.loads(attributes), key), published_at, attempts)
            for id, topic, data, attributes, key, published_at, attempts in rows
        ]

    def next_due(self, subscription: int) -> int | None:
        """When the next delivery is due."""
        query = "SELECT min(due_at) FROM deliveries WHERE subscription = ?"
        return self.db.execute(query, (subscription,)).fetchone()[0]

    def waiting(self) -> int:
        """How many deliveries there are that nobody has acknowledged yet."""
        return self.db.execute("SELECT count(*) FROM deliveries").fetchone()[0]

    def leased(self, subscription: int) -> set[int]:
        """The messages that somebody holds."""
        query = "SELECT message FROM deliveries WHERE subscription = ? AND due_at > ? AND leased_at IS NOT NULL"
        return {row[0] for row in self.db.execute(query, (subscription, now_ms()))}

    def message(self, id: int) -> tuple[Message, int] | None:
        """A message and when it was published; None when all have settled it."""
        query = "SELECT topic, data, attributes, ordering_key, published_at FROM messages WHERE id = ?"
        row = self.db.execute(query, (id,)).fetchone()
        return (Message(row[0], row[1], json.loads(row[2]), row[3]), row[4]) if row else None

    def attempts(self, subscription: int, message: int) -> int | None:
        """How often a delivery was begun; None if it is settled."""
        query = "SELECT attempts FROM deliveries WHERE message = ? AND subscription = ?"
        row = self.db.execute(query, (message, subscription)).fetchone()
        return row[0] if row else None

    def extend(self, subscription: int, message: int, attempt: int, due_at: int) -> None:
        """Move the end of the lease of that attempt."""
        self.db.execute(
            "UPDATE deliveries SET due_at = ? WHERE message = ? AND subscription = ? AND attempts = ?"
            " AND leased_at IS NOT NULL",
            (due_at, message, subscription, attempt),
        )

    def acknowledge(self, subscription: int, message: int, ms: float | None) -> None:
        """Done, by whichever attempt."""
        history.record(self.db, subscription, message, "delivered", "", ms)
        self._settle(subscription, message)

    def retry(self, subscription: int, message: int, attempt: int, reason: str, due_at: int, ms: float | None) -> None:
        """That attempt failed, if it is still the last one: come again."""
        freed = self.db.execute(
            "UPDATE deliveries SET due_at = ? WHERE message = ? AND subscription = ? AND attempts = ?"
            " AND leased_at IS NOT NULL",
            (due_at, message, subscription, attempt),
        )
        if freed.rowcount:
            history.record(self.db, subscription, message, "retrying", reason, ms)
            self.db.execute(
                "UPDATE deliveries SET leased_at = NULL WHERE message = ? AND subscription = ?",
                (message, subscription),
            )

    def bury(self, subscription: int, message: int, attempt: int, reason: str, ms: float | None) -> bool:
        """That attempt was the last allowed one, and failed: keep a dead letter. False if it was settled meanwhile."""
        if self.attempts(subscription, message) != attempt:
            return False
        history.record(self.db, subscription, message, "dead", reason, ms)
        history.bury(self.db, subscription, message, reason)
        self._settle(subscription, message)
        return True

    def expire(self, subscription: int, before: int) -> None:
        """Drop what was published longer ago than the subscription retains: ids are microseconds, see `publish`."""
        query = "DELETE FROM deliveries WHERE message < ? AND subscription = ?"
        if self.db.execute(query, (before * 1000, subscription)).rowcount:
            self._drop_orphans()

    def redrive(self, letter: history.Letter, subscription: int) -> None:
        """Deliver a dead letter anew, to the subscription that gave it up, and to no other."""
        message = Message(letter.topic, letter.data, json.loads(letter.attributes), letter.ordering_key)
        self.publish(message, [subscription], now_ms())
        history.forget(self.db, letter.id)

    def _settle(self, subscription: int, message: int) -> None:
        self.db.execute("DELETE FROM deliveries WHERE message = ? AND subscription = ?", (message, subscription))
        self.db.execute(
            "DELETE FROM messages WHERE id = ? AND NOT EXISTS (SELECT 1 FROM deliveries WHERE message = ?)",
            (message, message),
        )

    def _drop_orphans(self) -> None:
        self.db.execute("DELETE FROM messages WHERE id NOT IN (SELECT message FROM deliveries)")
