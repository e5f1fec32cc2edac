"""Redis late, killed, restarted, not to be signed in to, behind TLS: reads go on without it and nothing is mixed up."""

import asyncio
import time
from pathlib import Path

import pytest

from shared.kernel import cache, cache_link
from tests.kernel.redis_calls import is_unavailable, run, until_back
from tests.kernel.tls import TlsFront, certificate
from tests.servers import Servers, eventually, using

pytestmark = pytest.mark.usefixtures("servers")

AT_ONCE = 0.25
"""Seconds within which something comes without waiting, on a busy machine."""
ADD = cache.Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")


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
