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
    """The files and the database don't fit; the one line says how. As a SystemExit it ends a process with that line."""


class Migration(msgspec.Struct, frozen=True):
    """A migration file."""

    version: int
    name: str
    sql: str

    @property
    def file(self) -> str:
        """Its file's name."""
        return f"{self.version:04d}_{self.name}.sql"

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
    try:
        # Others may migrate for long, and so may we: the limits of requests don't hold here. The lock ends with the
        # connection, however this process ends.
        with db.unlimited() as conn:
            conn.command(f"SELECT pg_advisory_lock({_LOCK})")
            conn.command(
                "CREATE TABLE IF NOT EXISTS schema_migrations"
                " (version integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, applied_at bigint NOT NULL)"
            )
            missing = _missing(wanted, _APPLIED.all(conn))
            for migration in missing:
                _apply(conn, migration)
    except db.DatabaseUnavailable:
        raise MigrationError(
            "Postgres can't be reached, or went away: nothing half-done stays; run this again"
        ) from None
    return missing


def _missing(wanted: list[Migration], applied: list[AppliedRow]) -> list[Migration]:
    for expected, row in enumerate(applied, 1):
        if row.version != expected:
            raise MigrationError(f"the database has migration {row.version:04d} but lacks {expected:04d}")
        if expected > len(wanted):
            raise MigrationError(
                f"the database is at {applied[-1].version:04d}, newer than these files; deploy newer code"
            )
        if row.checksum != wanted[expected - 1].checksum:
            raise MigrationError(
                f"{wanted[expected - 1].file} was edited after it was applied; write a new one instead"
            )
    return wanted[len(applied) :]


def _apply(conn: db.Connection, migration: Migration) -> None:
    try:
        conn.command("BEGIN")
        conn.command(migration.sql)
        if conn.is_idle:
            raise MigrationError(f"{migration.file}: COMMIT and ROLLBACK are the runner's; what ran before stays")
        _RECORD.run(
            conn,
            version=migration.version,
            name=migration.name,
            checksum=migration.checksum,
            now=clock.now_ms(),
        )
        conn.command("COMMIT")
    except db.DatabaseError as error:
        raise MigrationError(f"{migration.file}: {error}; nothing of it stays") from None
