"""The newest entries of a list as one value: a fill that read before a change doesn't outlive it."""

import asyncio
from collections.abc import Iterator

import msgspec
import pytest

from infra.local.stack import Stack
from shared.kernel import cache, ids
from shared.kernel.recent import Recent


class Entry(msgspec.Struct, frozen=True, array_like=True):
    position: int
    name: str


@pytest.fixture
def owner(stack: Stack) -> Iterator[int]:
    owner = ids.new_id()
    yield owner
    cache.run_sync(("DEL", RECENT.key(owner)))


RECENT = Recent("test", Entry, keep=5)


class Listing:
    """A list in the place of Postgres: what it holds, how often it was asked, and what happens while it is."""

    def __init__(self, size: int):
        self.entries = [Entry(position, "ab"[position % 2]) for position in range(size, 0, -1)]
        self.asked = 0
        self.meanwhile: list[cache.Command] = []

    def load(self, before: int, count: int) -> list[Entry]:
        self.asked += 1
        found = [entry for entry in self.entries if entry.position < before][:count]
        cache.run_sync(*self.meanwhile)
        return found

    def load_a(self, before: int, count: int) -> list[Entry]:
        self.asked += 1
        return [entry for entry in self.entries if entry.position < before and entry.name == "a"][:count]


def taken(owner: int, listing: Listing, before: int | None, count: int, *, only_a: bool = False) -> list[int]:
    async def take() -> list[Entry]:
        try:
            (reply,) = await cache.run(RECENT.ask(owner))
            if only_a:
                chosen = {"chosen": lambda entry: entry.name == "a", "load_chosen": listing.load_a}
                return await RECENT.take(owner, reply, before, count, listing.load, **chosen)
            return await RECENT.take(owner, reply, before, count, listing.load)
        finally:
            cache.disconnect()

    return [entry.position for entry in asyncio.run(take())]


def test_what_is_filled_is_read_until_it_changes(owner: int) -> None:
    listing = Listing(3)
    assert [taken(owner, listing, before, 2) for before in (None, 3, 2, 1)] == [[3, 2], [2, 1], [1], []]
    assert listing.asked == 1
    listing.entries.pop(0)
    cache.run_sync(RECENT.changed(owner))
    assert taken(owner, listing, None, 9) == [2, 1]
    assert listing.asked == 2


def test_what_was_kept_in_an_older_form_is_a_miss(owner: int) -> None:
    listing = Listing(3)
    older = msgspec.msgpack.encode([{"position": 9, "name": "a"}])
    cache.run_sync(("SET", RECENT.key(owner), older))
    assert [taken(owner, listing, before, 2) for before in (None, 2)] == [[3, 2], [1]]
    assert listing.asked == 1


def test_beyond_what_is_kept_the_list_itself_is_asked(owner: int) -> None:
    listing = Listing(12)
    assert taken(owner, listing, None, 5) == [12, 11, 10, 9, 8]
    assert listing.asked == 1
    assert taken(owner, listing, 10, 5) == [9, 8, 7, 6, 5]
    assert taken(owner, listing, 3, 5) == [2, 1]
    assert listing.asked == 3


def test_chosen_ones_come_from_what_is_kept_if_it_has_enough(owner: int) -> None:
    listing = Listing(12)
    assert taken(owner, listing, None, 2, only_a=True) == [12, 10]
    assert listing.asked == 1
    assert taken(owner, listing, None, 4, only_a=True) == [12, 10, 8, 6]
    assert listing.asked == 2


def test_a_fill_that_read_before_a_change_is_not_kept(owner: int) -> None:
    listing = Listing(3)
    listing.meanwhile = [RECENT.changed(owner)]
    assert taken(owner, listing, None, 5) == [3, 2, 1]
    listing.meanwhile = []
    listing.entries.pop(0)
    assert taken(owner, listing, None, 5) == [2, 1]
    assert listing.asked == 2
