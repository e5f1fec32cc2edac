"""Single flight: once for all who ask meanwhile, and nobody's fault is another's."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from shared.kernel import single_flight


class Loads:
    """Counts what is loaded; each load waits until it is let go."""

    def __init__(self, fault: Exception | None = None):
        self.asked: list[list[int]] = []
        self.let_go = asyncio.Event()
        self.fault = fault

    async def __call__(self, keys: list[int]) -> dict[int, str]:
        self.asked.append(keys)
        await self.let_go.wait()
        if self.fault:
            raise self.fault
        return {key: f"value {key}" for key in keys if key < 100}


async def started(*work: Coroutine[Any, Any, object]) -> list["asyncio.Task[object]"]:
    """Under way, each waiting for what it waits for."""
    tasks = [asyncio.create_task(one) for one in work]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


def test_who_asks_meanwhile_gets_the_same() -> None:
    async def act() -> None:
        loads = Loads()
        tasks = await started(*[single_flight.shared("one", lambda: loads([1])) for _ in range(50)])
        loads.let_go.set()
        assert await asyncio.gather(*tasks) == [{1: "value 1"}] * 50
        assert loads.asked == [[1]]
        await single_flight.shared("one", lambda: loads([1]))
        assert loads.asked == [[1], [1]]

    asyncio.run(act())


def test_of_a_batch_only_what_is_not_under_way_is_loaded() -> None:
    async def act() -> None:
        loads = Loads()
        tasks = await started(
            single_flight.each("n", [1, 2], loads),
            single_flight.each("n", [2, 3, 3, 100], loads),
            single_flight.each("n", [1, 3], loads),
            single_flight.each("other", [1], loads),
        )
        loads.let_go.set()
        assert await asyncio.gather(*tasks) == [
            {1: "value 1", 2: "value 2"},
            {2: "value 2", 3: "value 3"},
            {1: "value 1", 3: "value 3"},
            {1: "value 1"},
        ]
        assert loads.asked == [[1, 2], [3, 100], [1]]

    asyncio.run(act())


def test_one_who_gives_up_stops_it_for_none() -> None:
    async def act() -> None:
        loads = Loads()
        first, second = await started(*[single_flight.each("n", [1], loads) for _ in range(2)])
        first.cancel()
        await asyncio.wait([first])
        loads.let_go.set()
        assert await second == {1: "value 1"}
        assert first.cancelled()
        assert loads.asked == [[1]]

    asyncio.run(act())


def test_a_fault_is_all_of_theirs_and_of_none_after() -> None:
    async def act() -> None:
        loads = Loads(LookupError("gone"))
        tasks = await started(*[single_flight.each("n", [1], loads) for _ in range(3)])
        loads.let_go.set()
        assert [type(fault) for fault in await asyncio.gather(*tasks, return_exceptions=True)] == [LookupError] * 3
        loads.fault = None
        assert await single_flight.each("n", [1], loads) == {1: "value 1"}

    asyncio.run(act())


def test_each_event_loop_has_its_own() -> None:
    async def hang() -> None:
        await started(single_flight.each("n", [1], Loads()))

    async def act() -> dict[int, str]:
        loads = Loads()
        loads.let_go.set()
        return await single_flight.each("n", [1], loads)

    asyncio.run(hang())
    assert asyncio.run(act()) == {1: "value 1"}


def test_a_fault_that_nobody_waited_for_is_not_complained_of(caplog: pytest.LogCaptureFixture) -> None:
    async def act() -> None:
        loads = Loads(LookupError("gone"))
        (only,) = await started(single_flight.each("n", [1], loads))
        only.cancel()
        await asyncio.wait([only])
        loads.let_go.set()
        await started()

    asyncio.run(act())
    assert not caplog.records
