"""Redis as reads and writes see it: in order, in time, and away without harm."""

import asyncio
import datetime
import ipaddress
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given
from hypothesis import settings as property_settings
from hypothesis import strategies as st

from shared.kernel import cache, cache_link, ledger
from tests.servers import ROOT, Servers, eventually, using

pytestmark = pytest.mark.usefixtures("servers")

T = TypeVar("T")
AT_ONCE = 0.25
"""Seconds within which something comes without waiting, on a busy machine."""
ADD = cache.Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
JOIN = cache.Script("return KEYS[1] .. ':' .. ARGV[1]")


def run(main: Coroutine[Any, Any, T]) -> T:
    async def and_leave() -> T:
        try:
            return await main
        finally:
            cache.disconnect()

    return asyncio.run(and_leave())


def is_unavailable() -> bool:
    try:
        cache.run_sync(("PING",))
    except cache.CacheUnavailable:
        return True
    return False


async def until_back() -> None:
    give_up = time.monotonic() + 10
    while True:
        try:
            await cache.run(("PING",))
        except cache.CacheUnavailable:
            assert time.monotonic() < give_up
            await asyncio.sleep(0.02)
        else:
            return


calls = st.lists(
    st.tuples(
        st.lists(st.integers(0, 999), min_size=1, max_size=4), st.sampled_from(["wait", "give up", "give up later"])
    ),
    min_size=1,
    max_size=30,
)


class TestReplies:
    @given(calls)
    @property_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_each_caller_gets_its_own_whoever_gives_up(self, plan: list[tuple[list[int], str]]):
        async def call(numbers: list[int]) -> list[Any]:
            return await cache.run(*[("ECHO", number) for number in numbers])

        async def all_at_once() -> None:
            tasks = [asyncio.create_task(call(numbers)) for numbers, _ in plan]
            await asyncio.sleep(0)
            for task, (_, manner) in zip(tasks, plan, strict=True):
                if manner == "give up":
                    task.cancel()
            await asyncio.sleep(0)
            for task, (_, manner) in zip(tasks, plan, strict=True):
                if manner == "give up later":
                    task.cancel()
            replies = await asyncio.gather(*tasks, return_exceptions=True)
            for (numbers, manner), got in zip(plan, replies, strict=True):
                expected = [str(number).encode() for number in numbers]
                assert got == expected or (manner != "wait" and isinstance(got, asyncio.CancelledError))
            assert await cache.run(("ECHO", "last")) == [b"last"]

        run(all_at_once())

    def test_all_requests_of_a_loop_share_one_connection(self):
        async def many() -> None:
            (before,) = cache.run_sync(("CLIENT", "LIST"))
            await asyncio.gather(*[cache.run(("ECHO", number)) for number in range(500)])
            (after,) = cache.run_sync(("CLIENT", "LIST"))
            assert after.count(b"\n") == before.count(b"\n") + 1

        run(many())

    def test_they_come_as_redis_means_them(self):
        commands: list[cache.Command] = [
            ("DEL", "kernel:a", "kernel:h"),
            ("SET", "kernel:a", b"\x00\xff"),
            ("GET", "kernel:a"),
            ("GET", "kernel:none"),
            ("HSET", "kernel:h", "x", 1, "ü", "é"),
            ("HMGET", "kernel:h", "x", "ü", "z"),
        ]
        expected = [b"\x00\xff", None, 2, [b"1", "é".encode(), None]]
        assert run(cache.run(*commands))[2:] == expected
        assert cache.run_sync(*commands)[2:] == expected

    def test_no_commands_ask_nothing(self):
        trips = ledger.open_ledger()
        assert run(cache.run()) == []
        assert cache.run_sync() == []
        assert trips == {}

    def test_the_ledger_counts_trips_and_statements(self):
        trips = ledger.open_ledger()
        cache.run_sync(("PING",), ("PING",))
        assert (trips["redis"].trips, trips["redis"].statements) == (1, 2)

    def test_a_refused_command_is_an_error_and_shifts_nothing(self):
        async def main() -> None:
            await cache.run(("SET", "kernel:text", "x"))
            refused = cache.run(("ECHO", "a"), ("INCR", "kernel:text"), ("ECHO", "b"))
            other = cache.run(("ECHO", "c"))
            results = await asyncio.gather(refused, other, return_exceptions=True)
            assert isinstance(results[0], cache.ReplyError)
            assert results[1] == [b"c"]

        run(main())
        with pytest.raises(cache.ReplyError):
            cache.run_sync(("ECHO", "a"), ("INCR", "kernel:text"), ("ECHO", "b"))
        assert cache.run_sync(("ECHO", "d")) == [b"d"]

    def test_what_cannot_be_sent_is_said_so_and_shifts_nothing(self):
        impossible: Any = ("ECHO", None)

        async def main() -> None:
            await cache.run(("PING",))
            results = await asyncio.gather(
                cache.run(("ECHO", "a"), impossible), cache.run(("ECHO", "b")), return_exceptions=True
            )
            assert isinstance(results[0], TypeError)
            assert results[1] == [b"b"]

        run(main())
        with pytest.raises(TypeError):
            cache.run_sync(("ECHO", "a"), impossible)
        assert cache.run_sync(("ECHO", "b")) == [b"b"]

    def test_large_replies_and_requests_arrive_whole(self):
        big = bytes(range(256)) * 20_000
        commands = (("SET", "kernel:big", big), ("GET", "kernel:big"), ("ECHO", "x"))
        assert run(cache.run(*commands)) == [b"OK", big, b"x"]
        assert cache.run_sync(*commands) == [b"OK", big, b"x"]

    def test_threads_share_a_pool_and_get_their_own(self):
        def ask(number: int) -> bool:
            return cache.run_sync(("ECHO", number), ("ECHO", -number)) == [b"%d" % number, b"%d" % -number]

        with ThreadPoolExecutor(16) as threads:
            assert all(threads.map(ask, range(2000)))

    def test_too_many_waiting_are_turned_away(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(cache_link, "MAX_WAITING", 10)

        async def main() -> None:
            await cache.run(("PING",))
            results = await asyncio.gather(*[cache.run(("ECHO", n)) for n in range(15)], return_exceptions=True)
            assert results[:10] == [[b"%d" % n] for n in range(10)]
            assert all(isinstance(result, cache.CacheUnavailable) for result in results[10:])
            assert await cache.run(("ECHO", "x")) == [b"x"]

        run(main())

    def test_one_loop_after_another(self):
        assert [run(cache.run(("ECHO", n))) for n in range(3)] == [[b"0"], [b"1"], [b"2"]]


class TestScripts:
    def test_unknown_ones_are_loaded_and_only_they_run_again(self):
        commands = (
            ("INCR", "kernel:n"),
            ADD.command(["kernel:m"], [5]),
            ("INCR", "kernel:n"),
            JOIN.command(["kernel:k"], ["v"]),
        )

        def prepare() -> None:
            cache.run_sync(("DEL", "kernel:n", "kernel:m"), ("SCRIPT", "FLUSH"))

        prepare()
        assert run(cache.run(*commands)) == [1, 5, 2, b"kernel:k:v"]
        prepare()
        assert cache.run_sync(*commands) == [1, 5, 2, b"kernel:k:v"]
        assert cache.run_sync(*commands) == [3, 10, 4, b"kernel:k:v"]

    def test_many_at_once_when_unknown(self):
        async def main() -> None:
            await cache.run(("DEL", "kernel:m"), ("SCRIPT", "FLUSH"))
            sums = await asyncio.gather(*[cache.run(ADD.command(["kernel:m"], [1])) for _ in range(50)])
            assert sorted(reply for (reply,) in sums) == list(range(1, 51))

        run(main())

    def test_loading_counts_as_a_trip(self):
        cache.run_sync(("SCRIPT", "FLUSH"))
        trips = ledger.open_ledger()
        cache.run_sync(ADD.command(["kernel:m"], [1]))
        assert trips["redis"].trips == 2


class TestAway:
    def test_a_late_reply_ends_the_wait_and_is_taken_for_no_other(self):
        async def main() -> None:
            await cache.run(("SET", "kernel:x", "right"))
            await asyncio.to_thread(cache.run_sync, ("CLIENT", "PAUSE", 2500, "ALL"))
            paused_at = began = time.monotonic()
            results = await asyncio.gather(*[cache.run(("ECHO", n)) for n in range(20)], return_exceptions=True)
            assert all(isinstance(result, cache.CacheUnavailable) for result in results)
            assert cache_link.REPLY_SECONDS <= time.monotonic() - began < cache_link.REPLY_SECONDS + 0.5
            while time.monotonic() - paused_at < 2.3:  # while it is away nobody waits, also not for a new connection
                began = time.monotonic()
                with pytest.raises(cache.CacheUnavailable):
                    await cache.run(("GET", "kernel:x"))
                assert time.monotonic() - began < AT_ONCE
                await asyncio.sleep(0.02)
            await until_back()
            assert await cache.run(("GET", "kernel:x"), ("ECHO", "y")) == [b"right", b"y"]

        run(main())

    def test_plain_code_waits_once_and_then_fails_at_once(self, servers: Servers):
        cache.run_sync(("PING",))
        with servers.valkey.frozen():
            began = time.monotonic()
            assert is_unavailable()
            assert time.monotonic() - began < 2.5
            began = time.monotonic()
            assert is_unavailable()
            assert time.monotonic() - began < AT_ONCE
        eventually(lambda: not is_unavailable())
        assert cache.run_sync(("ECHO", "own")) == [b"own"]

    def test_killed_it_fails_at_once_and_comes_back(self, servers: Servers):
        async def main() -> None:
            await cache.run(ADD.command(["kernel:m"], [1]))
            servers.valkey.kill()
            try:
                for _ in range(20):
                    began = time.monotonic()
                    with pytest.raises(cache.CacheUnavailable):
                        await cache.run(("PING",))
                    assert time.monotonic() - began < AT_ONCE
                    await asyncio.sleep(0.01)
                assert is_unavailable()
            finally:
                await asyncio.to_thread(servers.valkey.start)
            await until_back()
            await cache.run(ADD.command(["kernel:m"], [1]))  # it knows no scripts any more

        run(main())

    def test_after_a_restart_the_first_call_works(self, servers: Servers):
        async def main() -> None:
            await cache.run(("PING",))
            await asyncio.to_thread(cache.run_sync, ("PING",))
            servers.valkey.kill()
            await asyncio.to_thread(servers.valkey.start)
            assert await cache.run(("ECHO", "a")) == [b"a"]
            assert await asyncio.to_thread(cache.run_sync, ("ECHO", "b")) == [b"b"]

        run(main())

    def test_killed_under_way_every_caller_hears_of_it(self, servers: Servers):
        async def caller(number: int) -> int:
            done = 0
            try:
                while True:
                    assert await cache.run(("ECHO", number)) == [b"%d" % number]
                    done += 1
            except cache.CacheUnavailable:
                return done

        async def main() -> None:
            callers = [asyncio.create_task(caller(number)) for number in range(50)]
            while (await cache.run(("INCR", "kernel:laps")))[0] % 20:
                pass
            servers.valkey.kill()
            try:
                assert all(await asyncio.wait_for(asyncio.gather(*callers), 5))
            finally:
                await asyncio.to_thread(servers.valkey.start)

        run(main())

    def test_cut_connections_are_made_again(self):
        async def main() -> None:
            await cache.run(("PING",))
            await asyncio.to_thread(cache.run_sync, ("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))
            eventually_lost = time.monotonic() + 5
            while True:
                try:
                    assert await cache.run(("ECHO", "again")) == [b"again"]
                except cache.CacheUnavailable:
                    assert time.monotonic() < eventually_lost
                else:
                    return

        run(main())

    def test_one_that_gives_up_while_connecting_leaves_the_others(self):
        async def main() -> None:
            first = asyncio.create_task(cache.run(("ECHO", "a")))
            second = asyncio.create_task(cache.run(("ECHO", "b")))
            await asyncio.sleep(0)
            first.cancel()
            assert await second == [b"b"]

        run(main())

    @pytest.mark.parametrize("url", ["redis://:wrong@{}:{}/0", "redis://nobody:wrong@{}:{}/0", "redis://{}:{}/0"])
    def test_without_the_right_password_it_is_away(self, servers: Servers, url: str):
        with using({**servers.env, "REDIS_URL": url.format(*servers.redis_address())}):
            assert is_unavailable()
            with pytest.raises(cache.CacheUnavailable):
                run(cache.run(("PING",)))

    def test_an_address_that_accepts_and_says_nothing_is_away(self, servers: Servers):
        async def main() -> None:
            silent = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
            host, port = silent.sockets[0].getsockname()
            with using({**servers.env, "REDIS_URL": f"redis://{host}:{port}"}):
                began = time.monotonic()
                with pytest.raises(cache.CacheUnavailable):
                    await cache.run(("PING",))
                assert time.monotonic() - began < 1.5
                cache.disconnect()
            silent.close()

        run(main())


def certificate(folder: Path) -> tuple[Path, Path]:
    """A private authority's certificate for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(*pem))
    return folder / "cert.pem", folder / "key.pem"


class TlsFront:
    """TLS before a server that speaks none."""

    def __init__(self, cert: Path, key: Path, upstream: tuple[str, int]):
        self.port = 0
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(cert, key)
        self._upstream = upstream
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(*self._upstream)

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while received := await source.read(65536):
                target.write(received)
            target.close()

        await asyncio.gather(copy(reader, to_server), copy(from_server, writer), return_exceptions=True)

    def __enter__(self) -> "TlsFront":
        self._thread.start()
        starting = asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(5)
        self.port = server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


def test_tls_asks_who_the_server_is(servers: Servers, tmp_path: Path):
    cert, key = certificate(tmp_path)
    with TlsFront(cert, key, servers.redis_address()) as front:
        url = servers.env["REDIS_URL"].replace("redis://", "rediss://").rpartition(":")[0] + f":{front.port}/0"
        with using({**servers.env, "REDIS_URL": f"{url}?ssl_ca_certs={cert}"}):
            assert run(cache.run(("ECHO", "x"))) == [b"x"]
            assert cache.run_sync(("ECHO", "x")) == [b"x"]
            assert cache.redis().echo("x") == b"x"
        with using({**servers.env, "REDIS_URL": url}):
            assert is_unavailable()
            with pytest.raises(cache.CacheUnavailable):
                run(cache.run(("PING",)))


def test_redis_py_is_imported_only_by_who_asks_for_it():
    check = "import sys; from shared.kernel import cache; sys.exit('redis' in sys.modules or 'ssl' not in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=False).returncode == 0
