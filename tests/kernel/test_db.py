"""Postgres as the features see it: typed rows, faults by their meaning, a pool that outlives the server."""

import sys
import threading
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
from shared.kernel import db, db_open, ledger
from tests.kernel.things import BACKEND, COUNT, INSERT, ONE, RENAME, SETTING, Number, backend, terminate
from tests.servers import Servers, using

pytestmark = pytest.mark.usefixtures("servers")


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
# NUL can't be in a Postgres text, nor half a surrogate pair in UTF-8.
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])) | st.sampled_from(
    ["null", "NULL", "Null", "", '"', "\\", "{}", ",", " ", "\n", "a,b", "'"]
)
bigints = st.integers(-(2**63), 2**63 - 1)


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
                if one.sql.startswith("FETCH "):
                    continue  # what it gives is its cursor's
                _, columns, _ = conn._raw.prepare_statement(to_statement(one.sql)[0], ())
                given = [column["name"] for column in columns or ()]
                wanted = None if one.row is None else one.row.__struct_fields__
                assert wanted is None or len(given) == len(wanted), f"{given} for {wanted}: {one.sql}"
