"""The pool: who gets which connection, and servers that hang, die, come back or can't be reached."""

import asyncio
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from shared.kernel import db, db_connection, db_open, ledger, running
from tests.client import wait_until
from tests.kernel.things import BACKEND, INSERT, ONE, SLEEP, Number, Text, backend, terminate
from tests.kernel.tls import TlsFront, certificate
from tests.servers import ROOT, Servers, using

pytestmark = pytest.mark.usefixtures("servers")


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
                wait_until(lambda: using_it.one(conn).n <= 3)  # those of before are still ending

    def test_a_connection_that_was_ended_meanwhile_is_not_lent(self):
        terminate(backend())
        assert backend()

    def test_after_a_pause_the_server_is_asked(self, monkeypatch: pytest.MonkeyPatch):
        before = backend()
        monkeypatch.setattr(db_connection, "CHECK_AFTER_SECONDS", 0)
        assert backend() == before

    def test_a_server_that_hangs_is_given_a_second(self, servers: Servers, monkeypatch: pytest.MonkeyPatch):
        backend()
        for limit in ("CHECK_AFTER_SECONDS", "TRUSTED_SECONDS"):
            monkeypatch.setattr(db_connection, limit, 0)
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
            await asyncio.gather(*[running.in_thread(backend) for _ in range(10)])
            return trips

        assert asyncio.run(main())["postgres"].trips == 10


@contextmanager
def by_tls(servers: Servers, folder: Path, options: str) -> Generator[None, None, None]:
    """Postgres behind a TLS front; `{}` in the options is its certificate."""
    cert, key = certificate(folder)
    with TlsFront(cert, key, ("127.0.0.1", servers.ports["postgres"]), asked=True) as front:
        url = servers.env["DATABASE_URL"].replace(f":{servers.ports['postgres']}/", f":{front.port}/")
        with using({**servers.env, "DATABASE_URL": f"{url}?{options.format(cert)}"}):
            yield


def on_loop(*acts: Callable[[], Any]) -> list[Any]:
    """What each gives, run at once on one loop; what one raises is its result."""

    async def main() -> list[Any]:
        return await asyncio.gather(*[running.on_loop(act) for act in acts], return_exceptions=True)

    return asyncio.run(main())


class TestOnTheLoop:
    def test_many_at_once_share_it_and_the_loop_goes_on(self, servers: Servers):
        turns: list[float] = []

        def ask(n: int) -> Number:
            with db.transaction() as conn:
                SLEEP.one(conn, n=n)
                return ONE.one(conn, n=n)

        async def main() -> list[Number]:
            async def count() -> None:
                while True:
                    turns.append(time.monotonic())
                    await asyncio.sleep(0)

            counting = asyncio.create_task(count())
            found = await asyncio.gather(*[running.on_loop(partial(ask, n)) for n in range(40)])
            counting.cancel()
            return found

        with using({**servers.env, "DB_POOL_SIZE": "4"}):
            assert asyncio.run(main()) == [Number(n) for n in range(40)]
            # And threads have the same connections afterwards.
            with db.connection() as conn:
                using_it = db.Statement("SELECT count(*) FROM pg_stat_activity WHERE usename = current_user", Number)
                wait_until(lambda: using_it.one(conn).n <= 4)
        assert len(turns) > 100

    def test_its_context_is_the_request_s(self):
        async def main() -> ledger.Ledger:
            trips = ledger.open_ledger()
            await asyncio.gather(*[running.on_loop(backend) for _ in range(10)])
            return trips

        assert asyncio.run(main())["postgres"].trips == 10

    def test_who_waits_too_long_for_a_connection_is_told_and_takes_none(
        self, servers: Servers, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(db, "ACQUIRE_SECONDS", 0.1)

        def keep() -> int:
            with db.connection() as conn:
                SLEEP.one(conn, n=500)
                return BACKEND.one(conn).n

        with using({**servers.env, "DB_POOL_SIZE": "1"}):
            kept, *refused = on_loop(keep, backend, backend)
            assert [type(fault) for fault in refused] == [db.DatabaseUnavailable] * 2
            assert on_loop(backend) == [kept]

    def test_one_that_was_ended_is_unavailable_and_the_next_one_works(self):
        def ended_under_way() -> None:
            with db.connection() as conn:
                terminate(BACKEND.one(conn).n)
                BACKEND.one(conn)

        assert [type(fault) for fault in on_loop(ended_under_way)] == [db.DatabaseUnavailable]
        terminate(backend())
        assert on_loop(backend)[0] == backend()

    def test_a_thread_takes_what_the_loop_used_and_gives_it_back(self):
        async def main() -> list[int]:
            return [await running.on_loop(backend), await running.in_thread(backend), await running.on_loop(backend)]

        assert len({*asyncio.run(main())}) == 1

    def test_what_a_busy_loop_keeps_is_closed_by_the_loop_and_the_thread_opens_another(
        self, servers: Servers, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(db_open, "LET_GO_SECONDS", 0.1)
        faults: list[dict[str, Any]] = []

        async def main() -> tuple[int, int, int]:
            asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
            kept = await running.on_loop(backend)
            with ThreadPoolExecutor(1) as thread:
                opened = thread.submit(backend).result(10)  # the loop does nothing else meanwhile
            return kept, opened, await running.on_loop(backend)

        with using({**servers.env, "DB_POOL_SIZE": "2"}):
            kept, opened, later = asyncio.run(main())
            assert kept != opened == later
            there = db.Statement("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid", Number)
            with db.connection() as conn:
                wait_until(lambda: there.one(conn, pid=kept).n == 0)
        assert faults == []

    def test_a_server_that_hangs_is_given_up_on(self, servers: Servers, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(db_open, "STATEMENT_MS", 200)
        monkeypatch.setattr(db_open, "CONNECT_SECONDS", 1)

        def ask_while_frozen() -> None:
            with db.connection() as conn:
                BACKEND.one(conn)
                with servers.postgres.frozen():
                    BACKEND.one(conn)

        began = time.monotonic()
        with using(servers.env):
            assert [type(fault) for fault in on_loop(ask_while_frozen)] == [db.DatabaseUnavailable]
        assert time.monotonic() - began < 5

    def test_more_than_a_socket_takes_at_once_goes_out_and_comes_back(self):
        long = db.Statement("SELECT CAST(:text AS text)", Text)

        def ask() -> bool:
            with db.connection() as conn:
                return long.one(conn, text="x" * 20_000_000) == Text("x" * 20_000_000)

        assert on_loop(ask) == [True]

    def test_over_tls_too(self, servers: Servers, tmp_path: Path):
        long = db.Statement("SELECT CAST(:text AS text)", Text)

        def ask() -> bool:
            with db.connection() as conn:
                return (long.one(conn, text="x" * 300_000), ONE.one(conn, n=1)) == (Text("x" * 300_000), Number(1))

        with by_tls(servers, tmp_path, "sslmode=require"):
            assert on_loop(ask, ask) == [True, True]


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

    @pytest.mark.parametrize(
        ("options", "works"),
        [
            ("sslmode=require", True),
            ("sslmode=verify-ca&sslrootcert={}", True),
            ("sslmode=verify-full&sslrootcert={}", True),
            ("sslmode=verify-ca", False),
            ("sslmode=verify-full", False),
        ],
    )
    def test_tls_asks_who_the_server_is_if_told_to(self, servers: Servers, tmp_path: Path, options: str, works: bool):
        with by_tls(servers, tmp_path, options):
            if works:
                assert backend() == backend()
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
