"""Who is let in: they wait for nobody who leaves, and what is taken in for them goes with them, whenever they go."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from infra.local.stack import Stack
from realtime_service.connection import Connection
from realtime_service.hub import Hub
from shared.kernel import cache, clock, ids
from shared.live.publish import GATE, channel
from shared.presence import reads as presences
from tests.live.test_closing import opened
from tests.live.test_crowds import TOGETHER, connection_of

CROWD = 20 * TOGETHER


@asynccontextmanager
async def linked() -> AsyncIterator[Hub]:
    """A hub that hears Redis."""
    hub = Hub("coming")
    listening = asyncio.create_task(hub.bus.run())
    try:
        await hub.bus.subscribe(GATE)
        yield hub
    finally:
        listening.cancel()
        await asyncio.wait([listening])


def here(hub: Hub, user_ids: list[int]) -> list[Connection]:
    """A socket for each, which was let in before."""
    connections = [connection_of(user_id) for user_id in user_ids]
    for connection in connections:
        hub.users[connection.user_id] = {connection}
    return connections


async def until_of(user_id: int) -> int:
    """Until when somebody counts as here."""
    (reply,) = await cache.run(presences.ask(user_id))
    return presences.until_in(reply)


async def said(user_id: int, since: int) -> None:
    """Wait until it was said that somebody is or was here then."""
    async with asyncio.timeout(30):
        while await until_of(user_id) < since + presences.away_ms():
            pass


async def forget(user_ids: list[int]) -> None:
    for start in range(0, len(user_ids), TOGETHER):
        await cache.run(("DEL", *map(presences.key, user_ids[start : start + TOGETHER])))


def test_a_socket_closed_while_it_is_let_in_leaves_no_channel_behind(stack: Stack) -> None:
    user_id = ids.new_id()

    async def heard_by() -> int:
        async with linked() as hub, opened(leave=hub.remove) as (connection, _, _):
            connection.user_id = user_id
            adding = asyncio.create_task(hub.add(connection))
            await asyncio.sleep(0)
            assert hub.users == {user_id: {connection}}
            connection.close(4408, "idle")
            await adding
            assert hub.users == {}
            ((_, count),) = await cache.run(("PUBSUB", "NUMSUB", channel(user_id)))
            return count

    assert asyncio.run(heard_by()) == 0


def test_one_who_comes_waits_for_no_crowd_that_leaves(stack: Stack) -> None:
    crowd, one = [ids.new_id() for _ in range(CROWD)], ids.new_id()

    async def last_of_the_crowd() -> list[int]:
        async with linked() as hub:
            for connection in here(hub, crowd):
                hub.remove(connection)
            came = clock.now_ms()
            await hub.add(connection_of(one))
            found = [await until_of(user_id) for user_id in (one, crowd[-1])]
            await said(crowd[-1], came)  # but they are not forgotten for it
            await forget([*crowd, one])
            return [until - came - presences.away_ms() for until in found]

    came, left = asyncio.run(last_of_the_crowd())
    assert came >= 0 > left


def test_who_comes_back_while_they_are_to_be_said_to_have_left_is_here_from_then(stack: Stack) -> None:
    crowd = [ids.new_id() for _ in range(CROWD)]

    async def come_back() -> None:
        async with linked() as hub:
            for connection in here(hub, crowd):
                hub.remove(connection)
            came = clock.now_ms()
            await hub.add(connection_of(crowd[-1]))
            assert await until_of(crowd[-1]) >= came + presences.away_ms()
            assert await until_of(crowd[-2]) == 0
            await said(crowd[-2], came)
            await forget(crowd)

    asyncio.run(come_back())


@pytest.mark.parametrize("turns", [1, 2], ids=["before it is said", "while it is said"])
def test_who_comes_and_leaves_at_once_was_here_until_they_left(stack: Stack, turns: int) -> None:
    user_id = ids.new_id()

    async def leave() -> None:
        async with linked() as hub:
            connection = connection_of(user_id)
            coming = asyncio.create_task(hub.add(connection))
            for _ in range(turns):
                await asyncio.sleep(0)
            assert user_id in hub.users
            assert (user_id in hub._here._came) == (turns == 1), "it is the other case"
            came = clock.now_ms()
            while clock.now_ms() <= came:  # no turn of the loop: no answer can come
                pass
            left = clock.now_ms()
            hub.remove(connection)
            assert not coming.done()
            await coming
            await said(user_id, left)
            await forget([user_id])

    asyncio.run(leave())
