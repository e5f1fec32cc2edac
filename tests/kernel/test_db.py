"""Postgres as the features see it: typed rows, faults by their meaning, a pool that outlives the server."""

import asyncio
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from importlib import import_module
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as property_settings
from hypothesis import strategies as st
from pg8000.native import to_statement

import main
from infra.migrations import migrate
from shared.kernel import db, db_connection, db_open, ledger
from tests.servers import ROOT, Servers, using

pytestmark = pytest.mark.usefixtures("servers")


class Number(msgspec.Struct, frozen=True):
    n: int


class Text(msgspec.Struct, frozen=True):
    text: str | None


class Inner(msgspec.Struct, frozen=True):
    name: str
    size: int = 0


class Everything(msgspec.Struct, frozen=True):
    number: int
    text: str | None
    blob: bytes
    texts: list[str | None]
    blobs: list[bytes]
    numbers: list[int]
    json: dict[str, Any]
    inner: Inner
    many: list[Inner]
    maybe: Inner | None
    day: date
    flag: bool


EVERYTHING = db.Statement(
    """SELECT CAST(:number AS bigint), CAST(:text AS text), CAST(:blob AS bytea), CAST(:texts AS text[]),
              CAST(:blobs AS bytea[]), CAST(:numbers AS bigint[]), CAST(:json AS jsonb), CAST(:inner AS jsonb),
              CAST(:many AS jsonb), CAST(:maybe AS jsonb), CAST(:day AS date), CAST(:flag AS boolean)""",
    Everything,
)
ONE = db.Statement("SELECT CAST(:n AS bigint)", Number)
SETTING = db.Statement("SELECT current_setting(:name)", Text)
BACKEND = db.Statement("SELECT pg_backend_pid()", Number)
INSERT = db.Statement("INSERT INTO things (id, name) VALUES (:id, :name)")
COUNT = db.Statement("SELECT count(*) FROM things", Number)
RENAME = db.Statement("UPDATE things SET name = :name WHERE id = :id RETURNING id", Number)

# NUL can't be in a Postgres text, nor half a surrogate pair in UTF-8.
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])) | st.sampled_from(
    ["null", "NULL", "Null", "", '"', "\\", "{}", ",", " ", "\n", "a,b", "'"]
)
bigints = st.integers(-(2**63), 2**63 - 1)


@pytest.fixture
def things() -> Iterator[None]:
    with db.connection() as conn:
        conn.command("CREATE TABLE things (id bigint PRIMARY KEY, name text, CONSTRAINT thing_name UNIQUE (name))")
    yield
    db.disconnect()
    with db.connection() as conn:
        conn.command("DROP TABLE things")


def backend() -> int:
    with db.connection() as conn:
        return BACKEND.one(conn).n


def terminate(pid: int) -> None:
    with db.unlimited() as conn:
        conn.command(f"SELECT pg_terminate_backend({pid}, 5000)")


class TestValues:
    @given(
        bigints, st.none() | texts, st.binary(), st.lists(st.none() | texts), st.lists(st.binary()), st.lists(bigints),
        st.dictionaries(texts, st.none() | texts | st.integers(-(2**53), 2**53) | st.lists(texts)),
    )  # fmt: skip
    @property_settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_come_back_as_they_went(
        self,
        number: int,
        text: str | None,
        blob: bytes,
        texts: list[str | None],
        blobs: list[bytes],
        numbers: list[int],
        json: dict[str, Any],
    ):
        given = {"number": number, "text": text, "blob": blob, "texts": texts, "blobs": blobs, "numbers": numbers}
        with db.connection() as conn:
            got = EVERYTHING.one(
                conn,
                **given,
                json=json,
                inner={"name": "a", "size": 1},
                many=msgspec.json.encode([Inner("b", 2), Inner("c")]).decode(),
                maybe=None,
                day=date(2024, 2, 29),
                flag=True,
            )
        assert got == Everything(
            **given,
            json=json,
            inner=Inner("a", 1),
            many=[Inner("b", 2), Inner("c")],
            maybe=None,
            day=date(2024, 2, 29),
            flag=True,
        )

    def test_rows_and_counts(self, things: None):
        with db.connection() as conn:
            assert INSERT.run(conn, id=1, name="a") == 1
            assert RENAME.all(conn, id=2, name="b") == []
            assert RENAME.maybe(conn, id=2, name="b") is None
            assert RENAME.one(conn, id=1, name="b") == Number(1)
            with pytest.raises(db.NoRow):
                RENAME.one(conn, id=2, name="b")

    def test_a_missing_parameter_is_a_fault_of_ours_and_breaks_nothing(self):
        before = backend()
        with db.connection() as conn, pytest.raises(Exception, match="placeholder"):
            ONE.one(conn)
        assert backend() == before

    def test_what_cannot_be_read_ends_the_connection_with_its_unread_answer(self):
        before = backend()
        broken = db.Statement("SELECT CAST(:n AS jsonb), generate_series(1, 100)", Number)
        with pytest.raises(msgspec.DecodeError), db.connection() as conn:
            broken.all(conn, n="1" + "0" * 5000)
        assert backend() != before


class TestFaults:
    def test_a_key_that_is_there_already(self, things: None):
        with db.connection() as conn:
            INSERT.run(conn, id=1, name="a")
            with pytest.raises(db.UniqueViolation) as taken:
                INSERT.run(conn, id=2, name="a")
            assert taken.value.constraint == "thing_name"
            with pytest.raises(db.UniqueViolation) as taken:
                INSERT.run(conn, id=1, name="b")
            assert taken.value.constraint == "things_pkey"
            assert "=(" not in str(taken.value), "a message tells no values"
            assert COUNT.one(conn) == Number(1)

    def test_other_refusals_have_their_code(self):
        wrong = db.Statement("SELECT 1 / CAST(:n AS bigint)", Number)
        with db.connection() as conn:
            with pytest.raises(db.DatabaseError) as refused:
                wrong.one(conn, n=0)
            assert refused.value.sqlstate == "22012"
            assert wrong.one(conn, n=1) == Number(1)

    def test_a_statement_that_takes_too_long_is_ended(self):
        slow = db.Statement("SELECT 1 FROM pg_sleep(:seconds)", Number)
        with db.connection() as conn:
            conn.command("SET statement_timeout = 100")
            with pytest.raises(db.DatabaseUnavailable):
                slow.one(conn, seconds=5)
            conn.command(f"SET statement_timeout = {db_open.STATEMENT_MS}")
            assert ONE.one(conn, n=1) == Number(1)

    def test_limits_are_set_from_the_start(self):
        with db.connection() as conn:
            assert SETTING.one(conn, name="statement_timeout").text == "8s"
            assert SETTING.one(conn, name="lock_timeout").text == "3s"
            assert SETTING.one(conn, name="idle_in_transaction_session_timeout").text == "15s"
            assert SETTING.one(conn, name="application_name").text
        with db.unlimited() as conn:
            assert SETTING.one(conn, name="statement_timeout").text == "0"
            assert conn._raw._usock.gettimeout() is None

    def test_a_deadlock_is_resolved_by_doing_it_again(self, things: None):
        with db.connection() as conn:
            INSERT.run(conn, id=1, name="a")
            INSERT.run(conn, id=2, name="b")
        meet = threading.Barrier(2)
        rounds: list[int] = []

        def swap(first: int, second: int) -> None:
            with db.transaction() as conn:
                rounds.append(first)
                RENAME.run(conn, id=first, name=f"x{first}")
                if len(rounds) <= 2:
                    meet.wait(10)
                RENAME.run(conn, id=second, name=f"y{second}")

        with ThreadPoolExecutor(2) as threads:
            list(threads.map(lambda ids: db.retrying(swap, *ids), [(1, 2), (2, 1)]))
        assert len(rounds) > 2, "one of them had to begin again"

    def test_a_plan_that_a_migration_made_stale_is_made_again(self, things: None):
        everything = db.Statement("SELECT * FROM things")
        with db.connection() as conn:
            assert everything.run(conn) == 0
            with db.unlimited() as other:
                other.command("ALTER TABLE things ALTER COLUMN name TYPE varchar(100), ADD COLUMN more text")
            assert everything.run(conn) == 0
            with db.unlimited() as other:
                other.command("ALTER TABLE things DROP COLUMN more")
            conn.begin()
            assert ONE.one(conn, n=1) == Number(1)
            with pytest.raises(db.Contended):
                everything.run(conn)
            conn.rollback()

        def count() -> int:
            with db.transaction() as conn:
                return everything.run(conn)

        assert db.retrying(count) == 0


class TestTransactions:
    def insert(self, *ids: int) -> None:
        with db.transaction() as conn:
            for number in ids:
                INSERT.run(conn, id=number, name=str(number))

    def insert_and_fail(self) -> None:
        with db.transaction() as conn:
            INSERT.run(conn, id=3, name="c")
            raise ZeroDivisionError

    def swallow(self) -> None:
        with db.transaction() as conn:
            INSERT.run(conn, id=1, name="a")
            with pytest.raises(db.UniqueViolation):
                INSERT.run(conn, id=1, name="a")

    def lose_the_backend(self) -> None:
        with db.transaction() as conn:
            INSERT.run(conn, id=1, name="a")
            terminate(BACKEND.one(conn).n)
            INSERT.run(conn, id=2, name="b")

    def test_all_or_nothing(self, things: None):
        self.insert(1, 2)
        with pytest.raises(ZeroDivisionError):
            self.insert_and_fail()
        with pytest.raises(db.UniqueViolation):
            self.insert(4, 4)
        with db.connection() as conn:
            assert COUNT.one(conn) == Number(2)

    def test_the_first_statement_brings_the_begin(self, things: None):
        with db.connection() as conn:
            COUNT.one(conn)
        trips = ledger.open_ledger()
        with db.transaction() as conn:
            COUNT.one(conn)
        assert trips["postgres"].trips == 2, "the statement with its BEGIN, and COMMIT"
        trips = ledger.open_ledger()
        with db.transaction():
            pass
        assert trips == {}

    def test_a_first_statement_that_fails_leaves_nothing_open(self, things: None):
        with db.connection() as conn:
            INSERT.run(conn, id=1, name="a")
        before = backend()
        with pytest.raises(db.UniqueViolation), db.transaction() as conn:
            INSERT.run(conn, id=1, name="a")
        assert backend() == before
        with db.connection() as conn:
            assert COUNT.one(conn) == Number(1)
            assert conn.is_idle

    def test_a_swallowed_failure_is_no_commit(self, things: None):
        with pytest.raises(RuntimeError, match="nothing was committed"):
            self.swallow()
        with db.connection() as conn:
            assert COUNT.one(conn) == Number(0)

    def test_a_connection_left_in_a_transaction_is_not_lent_again(self, things: None):
        with db.connection() as conn:
            left = BACKEND.one(conn).n
            conn.command("BEGIN")
            INSERT.run(conn, id=1, name="a")
        with db.connection() as conn:
            assert COUNT.one(conn) == Number(0)
            assert BACKEND.one(conn).n != left

    def test_of_a_backend_that_dies_nothing_stays(self, things: None):
        with pytest.raises(db.DatabaseUnavailable):
            self.lose_the_backend()
        with db.connection() as conn:
            assert COUNT.one(conn) == Number(0)


class TestPool:
    def test_the_last_given_back_is_lent_first(self):
        with db.connection() as one, db.connection() as two:
            pids = [BACKEND.one(one).n, BACKEND.one(two).n]
        assert backend() == pids[0]
        assert backend() == pids[0]

    def test_no_more_than_its_size(self, servers: Servers, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(db, "ACQUIRE_SECONDS", 0.1)
        with using({**servers.env, "DB_POOL_SIZE": "2"}):
            with db.connection(), db.connection(), pytest.raises(db.DatabaseUnavailable):
                backend()
            assert backend()

    def test_threads_wait_their_turn_and_get_their_own(self, servers: Servers):
        def ask(n: int) -> bool:
            with db.connection() as conn:
                return ONE.one(conn, n=n) == Number(n)

        with using({**servers.env, "DB_POOL_SIZE": "3"}), ThreadPoolExecutor(16) as threads:
            assert all(threads.map(ask, range(1000)))
            with db.connection() as conn:
                using_it = db.Statement("SELECT count(*) FROM pg_stat_activity WHERE usename = current_user", Number)
                assert using_it.one(conn).n <= 3

    def test_a_connection_that_was_ended_meanwhile_is_not_lent(self):
        terminate(backend())
        assert backend()

    def test_after_a_pause_the_server_is_asked(self, monkeypatch: pytest.MonkeyPatch):
        before = backend()
        monkeypatch.setattr(db_connection, "CHECK_AFTER_SECONDS", 0)
        assert backend() == before

    def test_a_server_that_hangs_is_given_a_second(self, servers: Servers, monkeypatch: pytest.MonkeyPatch):
        backend()
        monkeypatch.setattr(db_connection, "CHECK_AFTER_SECONDS", 0)
        with servers.postgres.frozen():
            began = time.monotonic()
            with pytest.raises(db.DatabaseUnavailable):
                backend()
            assert time.monotonic() - began < db_connection.CHECK_SECONDS + db_open.CONNECT_SECONDS + 1
            began = time.monotonic()
            with pytest.raises(db.DatabaseUnavailable):
                backend()
            assert time.monotonic() - began < 0.3, "the next ones don't wait"
        time.sleep(db.SLOW_CONNECT_SECONDS)
        assert backend()

    def test_after_a_restart_the_first_request_works(self, servers: Servers):
        with db.connection() as one, db.connection() as two:
            assert BACKEND.one(one) != BACKEND.one(two)
        servers.postgres.kill()
        try:
            for _ in range(3):
                began = time.monotonic()
                with pytest.raises(db.DatabaseUnavailable):
                    backend()
                assert time.monotonic() - began < 0.3
        finally:
            servers.postgres.start()
        assert backend()
        with db.connection() as conn:
            kept = BACKEND.one(conn)
        servers.postgres.kill()
        servers.postgres.start()
        assert backend() != kept.n

    def test_killed_under_way_what_was_acknowledged_is_there(self, servers: Servers, things: None):
        done: list[int] = []

        def write(worker: int) -> None:
            try:
                for n in range(100_000):
                    key = n * 10 + worker
                    with db.transaction() as conn:
                        INSERT.run(conn, id=key, name=str(key))
                    done.append(key)
            except db.DatabaseUnavailable:
                return

        with ThreadPoolExecutor(4) as threads:
            writing = [threads.submit(write, worker) for worker in range(4)]
            while len(done) < 100:
                time.sleep(0.01)
            servers.postgres.kill()
            for one in writing:
                one.result(20)
        servers.postgres.start()
        there = db.Statement("SELECT id FROM things", Number)
        with db.connection() as conn:
            assert set(done) <= {row.n for row in there.all(conn)}

    def test_async_code_uses_it_in_threads_with_its_own_ledger(self):
        async def main() -> ledger.Ledger:
            trips = ledger.open_ledger()
            await asyncio.gather(*[db.in_thread(backend) for _ in range(10)])
            return trips

        assert asyncio.run(main())["postgres"].trips == 10


class TestConnecting:
    @pytest.mark.parametrize(
        ("old", "new"), [("//i9lyfe:", "//nobody:"), ("//i9lyfe:", "//i9lyfe:not"), ("/i9lyfe", "/absent")]
    )
    def test_a_wrong_address_is_unavailable_and_the_log_says_why(
        self, servers: Servers, old: str, new: str, caplog: pytest.LogCaptureFixture
    ):
        url = servers.env["DATABASE_URL"]
        url = url[: url.rindex(old)] + new if old.startswith("/i9") else url.replace(old, new)
        with using({**servers.env, "DATABASE_URL": url}), pytest.raises(db.DatabaseUnavailable):
            backend()
        (record,) = caplog.records
        assert re.search("password authentication failed|does not exist", vars(record)["reason"])

    def test_a_silent_address_is_given_up(self, servers: Servers, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(db_open, "CONNECT_SECONDS", 0.2)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"postgresql://i9lyfe:x@127.0.0.1:{silent.getsockname()[1]}/i9lyfe"
            with using({**servers.env, "DATABASE_URL": url}), pytest.raises(db.DatabaseUnavailable):
                backend()

    @pytest.mark.parametrize(("mode", "works"), [("disable", True), ("prefer", True), ("require", False)])
    def test_sslmode(self, servers: Servers, mode: str, works: bool):
        with using({**servers.env, "DATABASE_URL": servers.env["DATABASE_URL"] + f"?sslmode={mode}"}):
            if works:
                assert backend()
            else:
                with pytest.raises(db.DatabaseUnavailable):
                    backend()


def test_the_connector_is_imported_only_by_who_is_told_to_use_it(servers: Servers):
    check = (
        "import sys; from shared.kernel import db\n"
        "with db.connection() as conn: conn.command('SELECT 1')\n"
        "sys.exit('google.cloud.sql' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", check], cwd=ROOT, env=servers.env | {"PATH": ""}, check=False)
    assert run.returncode == 0


def test_every_statement_of_the_product_fits_the_schema(servers: Servers):
    for module in {*main.ENDPOINT_TARGETS, *main.EVENT_TARGETS, "realtime_service.relay"}:
        import_module(module)
    ours = [
        module for name, module in sys.modules.items() if name.startswith(("shared.", "infra.", "realtime_service."))
    ]
    statements = {one for module in ours for one in vars(module).values() if isinstance(one, db.Statement)}
    assert len(statements) > 30
    with using({**servers.env, "DATABASE_URL": servers.new_database()}):
        migrate()
        with db.unlimited() as conn:
            for one in statements:
                _, columns, _ = conn._raw.prepare_statement(to_statement(one.sql)[0], ())
                given = [column["name"] for column in columns or ()]
                wanted = None if one.row is None else one.row.__struct_fields__
                assert wanted is None or len(given) == len(wanted), f"{given} for {wanted}: {one.sql}"
