"""Redis as reads and writes see it: in order, in time, and away without harm."""

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as property_settings
from hypothesis import strategies as st

from shared.kernel import cache, cache_link, ledger
from tests.kernel.redis_calls import run
from tests.servers import ROOT

pytestmark = pytest.mark.usefixtures("servers")

ADD = cache.Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
JOIN = cache.Script("return KEYS[1] .. ':' .. ARGV[1]")


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


def test_redis_py_is_imported_only_by_who_asks_for_it():
    check = "import sys; from shared.kernel import cache; sys.exit('redis' in sys.modules or 'ssl' not in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=False).returncode == 0
