"""Migrations: numbered forward-only SQL files, each applied once, in one transaction, under an advisory lock."""

import hashlib
import re
from pathlib import Path
from typing import Final

import msgspec

from shared.kernel import clock, db

FOLDER: Final = Path(__file__).parent
# Any number will do as long as nobody else locks on it.
_LOCK: Final = 7_419_533_205
_FILE: Final = re.compile(r"(\d{4})_(\w+)\.sql")


class MigrationError(SystemExit):
    """The files and the database don't fit; the one line says how."""


class Migration(msgspec.Struct, frozen=True):
    """A migration file."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """Of its text: a file that was applied is never edited."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


class AppliedRow(msgspec.Struct, frozen=True):
    """A migration that was applied."""

    version: int
    checksum: str


_APPLIED = db.Statement("SELECT version, checksum FROM schema_migrations ORDER BY version", AppliedRow)
_RECORD = db.Statement(
    "INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES (:version, :name, :checksum, :now)"
)


def migrations(folder: Path = FOLDER) -> list[Migration]:
    """The files in order. Raises MigrationError for a gap, a number used twice, or a name of another form."""
    found: list[Migration] = []
    for path in sorted(folder.glob("*.sql")):
        match = _FILE.fullmatch(path.name)
        if match is None or int(match[1]) != len(found) + 1:
            raise MigrationError(f"{path.name}: expected a file named {len(found) + 1:04d}_<name>.sql")
        found.append(Migration(int(match[1]), match[2], path.read_text("utf-8")))
    return found


def migrate(folder: Path = FOLDER) -> list[Migration]:
    """Apply what is missing, and say what was. Two at once wait for each other. Raises MigrationError."""
    wanted = migrations(folder)
    with db.connection() as conn:
        # Others may migrate for long, and so may we: the limits of requests don't hold here.
        conn.command("SET statement_timeout = 0; SET lock_timeout = 0")
        conn.command(f"SELECT pg_advisory_lock({_LOCK})")
        try:
            return _apply(conn, wanted)
        finally:
            conn.command(f"SELECT pg_advisory_unlock({_LOCK})")
            conn.broken = True  # its limits are off: no request gets it


def _apply(conn: db.Connection, wanted: list[Migration]) -> list[Migration]:
    conn.command(
        "CREATE TABLE IF NOT EXISTS schema_migrations"
        " (version integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, applied_at bigint NOT NULL)"
    )
    applied = _APPLIED.all(conn)
    if len(applied) > len(wanted):
        raise MigrationError(f"the database is at {applied[-1].version:04d}, newer than these files; deploy newer code")
    for row, migration in zip(applied, wanted, strict=False):
        if row.checksum != migration.checksum:
            raise MigrationError(f"{migration.version:04d}_{migration.name}.sql was edited after it was applied")
    for migration in wanted[len(applied) :]:
        conn.command("BEGIN")
        try:
            conn.command(migration.sql)
            _RECORD.run(
                conn,
                version=migration.version,
                name=migration.name,
                checksum=migration.checksum,
                now=clock.now_ms(),
            )
        except BaseException:
            conn.command("ROLLBACK")
            raise
        conn.command("COMMIT")
    return wanted[len(applied) :]
