"""Migrations: in order, once, whole or not at all, whoever else migrates."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from infra.migrations import FOLDER, MigrationError, migrate, migrations
from shared.kernel import db
from tests.servers import ROOT, Servers, eventually, using


class Found(msgspec.Struct, frozen=True):
    n: int


class Applied(msgspec.Struct, frozen=True):
    version: int
    name: str


APPLIED = db.Statement("SELECT version, name FROM schema_migrations ORDER BY version", Applied)
TABLES = db.Statement("SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tablename = :name", Found)
# Up to this one they make a database that nobody reads yet.
LIVE_SINCE = 11
# Tables that were there before, and from which this transaction keeps out who reads.
KEPT_OUT = db.Statement(
    """SELECT count(*) FROM pg_locks JOIN pg_class c ON c.oid = relation
        WHERE pid = pg_backend_pid() AND mode = 'AccessExclusiveLock' AND relname = ANY(CAST(:tables AS text[]))""",
    Found,
)
NAMES = db.Statement("SELECT 0, tablename FROM pg_tables WHERE schemaname = 'public'", Applied)
WAITING = db.Statement("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted", Found)
SLEEPING = db.Statement("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'", Found)


@pytest.fixture
def database(servers: Servers) -> Iterator[str]:
    """An empty database, which this process uses."""
    url = servers.new_database()
    with using({**servers.env, "DATABASE_URL": url}):
        yield url


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "0001_first.sql").write_text("CREATE TABLE one (id int);\n-- and\nCREATE TABLE two (id int);\n")
    (tmp_path / "0002_second.sql").write_text(
        "CREATE FUNCTION twice(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN n * 2; END; $$;\n"
        "INSERT INTO one VALUES (1), (2);"
    )
    return tmp_path


def applied() -> list[tuple[int, str]]:
    with db.connection() as conn:
        return [(row.version, row.name) for row in APPLIED.all(conn)]


def count(statement: db.Statement[Found], **params: object) -> int:
    with db.connection() as conn:
        return statement.one(conn, **params).n


def start(database: str, folder: Path, servers: Servers) -> "subprocess.Popen[str]":
    code = "import sys, pathlib; from infra.migrations import migrate; print(len(migrate(pathlib.Path(sys.argv[1]))))"
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        cwd=ROOT,
        env={**servers.env, "DATABASE_URL": database, "PATH": ""},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_in_order_and_only_once(database: str, folder: Path):
    assert [done.name for done in migrate(folder)] == ["first", "second"]
    assert applied() == [(1, "first"), (2, "second")]
    assert migrate(folder) == []
    (folder / "0003_third.sql").write_text("CREATE TABLE three (id int)")
    assert [done.file for done in migrate(folder)] == ["0003_third.sql"]
    assert count(TABLES, name="three") == 1


def test_those_of_the_product_apply_as_the_command_does_it(database: str, servers: Servers):
    def command() -> "subprocess.CompletedProcess[str]":
        env = {**servers.env, "DATABASE_URL": database, "PATH": ""}
        given = [sys.executable, "-m", "infra.migrations"]
        return subprocess.run(given, cwd=ROOT, env=env, capture_output=True, text=True, check=False)

    first = command()
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines() == [f"applied {one.file}" for one in migrations(FOLDER)]
    again = command()
    assert (again.returncode, again.stdout) == (0, "")


def test_no_index_is_built_while_nobody_can_read(database: str):
    assert database
    made, later = migrations()[:LIVE_SINCE], migrations()[LIVE_SINCE:]
    built: list[str] = []
    with db.unlimited() as conn:
        for migration in made:
            conn.command(migration.sql)
        for migration in later:
            tables = [row.name for row in NAMES.all(conn)]
            conn.command("BEGIN")
            for statement in re.split(r";\n(?=[A-Z-])", migration.sql):
                if "CREATE INDEX" in statement and KEPT_OUT.one(conn, tables=tables).n:
                    built.append(f"{migration.file}: {statement}")
                conn.command(statement)
            conn.command("COMMIT")
    assert built == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda folder: (folder / "0001_first.sql").write_text("CREATE TABLE other (id int)"),
            "0001_first.sql was edited",
        ),
        (lambda folder: (folder / "0002_second.sql").unlink(), "newer than these files"),
        (lambda folder: (folder / "0004_fourth.sql").write_text("SELECT 1"), "0004_fourth.sql: expected .* 0003_"),
        (lambda folder: (folder / "0002_another.sql").write_text("SELECT 1"), "0002_second.sql: expected .* 0003_"),
        (lambda folder: (folder / "later.sql").write_text("SELECT 1"), "later.sql: expected .* 0003_"),
    ],
)
def test_files_that_do_not_fit_are_refused_with_one_line(database: str, folder: Path, change, says: str):
    migrate(folder)
    change(folder)
    with pytest.raises(MigrationError, match=says) as refused:
        migrate(folder)
    assert "\n" not in str(refused.value)
    assert applied() == [(1, "first"), (2, "second")]


def test_one_that_fails_leaves_nothing_of_itself(database: str, folder: Path):
    (folder / "0003_third.sql").write_text("CREATE TABLE three (id int); SELECT 1 / 0;")
    with pytest.raises(MigrationError, match=r"0003_third\.sql: 22012: division by zero"):
        migrate(folder)
    assert applied() == [(1, "first"), (2, "second")]
    assert count(TABLES, name="three") == 0
    (folder / "0003_third.sql").write_text("CREATE TABLE three (id int)")
    assert len(migrate(folder)) == 1


def test_one_that_commits_by_itself_is_refused(database: str, folder: Path):
    (folder / "0003_third.sql").write_text("SELECT 1; COMMIT;")
    with pytest.raises(MigrationError, match="COMMIT and ROLLBACK are the runner's"):
        migrate(folder)
    assert applied() == [(1, "first"), (2, "second")]


def test_several_at_once_wait_for_each_other(database: str, folder: Path, servers: Servers):
    (folder / "0003_slow.sql").write_text("SELECT pg_sleep(0.5)")
    running = [start(database, folder, servers) for _ in range(4)]
    done = sorted(int(process.communicate(timeout=60)[0]) for process in running)
    assert done == [0, 0, 0, 3]
    assert [process.returncode for process in running] == [0, 0, 0, 0]


def test_a_killed_one_leaves_nothing_half_done_and_no_lock(database: str, folder: Path, servers: Servers):
    (folder / "0003_slow.sql").write_text("CREATE TABLE three (id int); SELECT pg_sleep(2);")
    killed = start(database, folder, servers)
    eventually(lambda: count(SLEEPING) == 1, 30)
    waiting: list[int] = []
    second = threading.Thread(target=lambda: waiting.append(len(migrate(folder))))
    second.start()
    eventually(lambda: count(WAITING) == 1)
    killed.kill()
    killed.communicate()
    second.join(30)
    assert waiting == [1]
    assert applied()[-1] == (3, "slow")


def test_without_postgres_it_says_so_in_one_line(servers: Servers, folder: Path):
    nowhere = {**servers.env, "DATABASE_URL": "postgresql://i9lyfe:x@127.0.0.1:1/i9lyfe"}
    with using(nowhere), pytest.raises(MigrationError, match="can't be reached"):
        migrate(folder)
