"""The pool: who gets which connection, and servers that hang, die, come back or can't be reached."""

import asyncio
import re
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.kernel import db, db_connection, db_open, ledger
from tests.kernel.things import BACKEND, INSERT, ONE, Number, backend, terminate
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
        cert, key = certificate(tmp_path)
        with TlsFront(cert, key, ("127.0.0.1", servers.ports["postgres"]), asked=True) as front:
            url = servers.env["DATABASE_URL"].replace(f":{servers.ports['postgres']}/", f":{front.port}/")
            with using({**servers.env, "DATABASE_URL": f"{url}?{options.format(cert)}"}):
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
