"""Who waits for a lock of the test's: asked of `pg_locks`, which is looked at anew also within one transaction."""

import msgspec

from shared.kernel import db


class CountRow(msgspec.Struct, frozen=True):
    count: int


_WAITING = db.Statement(
    "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))", CountRow
)


def somebody_waits_for(conn: db.Connection) -> bool:
    """Whether anybody waits for what this connection holds."""
    return _WAITING.one(conn).count > 0
