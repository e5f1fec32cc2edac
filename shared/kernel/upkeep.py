"""Upkeep: events that are due by the clock, and deleting what has had its time in bounded batches."""

from typing import Final

from shared.kernel import clock, db
from shared.kernel.events import Event, encode

# A batch is one statement and one transaction: it holds few locks, and not for long.
BATCH: Final = 1000


class UpkeepDue(Event, frozen=True):
    """It is time to delete what has expired. `at` is when, in milliseconds."""

    at: int


# Two at once: the second waits for the first, and then finds nothing due. What was due while nobody ran is due once.
_EMIT: Final = db.Statement(
    """WITH due AS (UPDATE schedules SET next_at = :now + every_ms WHERE next_at <= :now RETURNING topic)
       INSERT INTO outbox (topic, payload, created_at) SELECT topic, :payload, :now FROM due"""
)


def emit_due() -> int:
    """Emit each scheduled event that is due, once however many do this at once; answers how many were."""
    now = clock.now_ms()
    with db.connection() as conn:
        return _EMIT.run(conn, now=now, payload=encode(UpkeepDue(now)))


def sweep(delete: "db.Statement[None]", before: int) -> None:
    """Run `delete`, which takes up to `limit` rows that were over `before`, until none is left."""
    full = True
    while full:
        with db.connection() as conn:
            full = delete.run(conn, before=before, limit=BATCH) == BATCH
