"""Paging sees every item that existed throughout exactly once, in order, whatever comes, goes and moves meanwhile."""

import threading
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra import targets
from infra.local.stack import Stack
from shared.kernel import cache
from shared.kernel.endpoint import ENDPOINTS
from tests.client import standing_still
from tests.properties.listings import LISTINGS, SLOTS, Listing, Pages, World

Problem = Callable[..., dict[str, Any]]
ACTS = ("nothing", "put", "take", "up", "up", "down", "late", "lose")
# The limit of a page, and what happens after it, to which entries.
Step = tuple[int, list[tuple[str, int]]]
STEPS = st.lists(
    st.tuples(
        st.integers(1, 2),
        st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, SLOTS - 1)), max_size=4),
    ),
    min_size=1,
    max_size=SLOTS,
)
MOVING = ("list_chats inbox", "list_chats requests", "list_commented_posts", "list_notifications")


class Lists:
    """The lists of one world, each made when it is first asked for, and full when it is given."""

    def __init__(self, stack: Stack):
        self.world = World(stack)
        self._made: dict[str, Listing] = {}

    def full(self, name: str) -> Listing:
        if name not in self._made:
            self._made[name] = LISTINGS[name](self.world)
        listing = self._made[name]
        listing.fill()
        return listing

    def shown(self, name: str) -> Listing:
        """The same, which shows what was put in and is in."""
        listing = self.full(name)
        assert set(listing.keys()) == set(listing.there.values())
        return listing

    def all(self) -> Iterator[tuple[str, Listing]]:
        for name in LISTINGS:
            yield name, self.full(name)


@pytest.fixture(scope="module")
def lists(stack: Stack) -> Lists:
    return Lists(stack)


def test_there_is_no_list_but_these() -> None:
    targets.load()
    assert {name.split()[0] for name in LISTINGS} == {one.name for one in ENDPOINTS.values() if one.page_of}


@pytest.mark.parametrize("name", LISTINGS)
@given(steps=STEPS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_existed_throughout_is_seen_once_in_order(lists: Lists, name: str, steps: list[Step]) -> None:
    listing = lists.shown(name)
    start, gone, moved = listing.keys(), set[str](), set[str]()
    seen: list[str] = []
    pages = listing.pages([*(limit for limit, _ in steps), *[50] * 100])
    for keys, limit, cursor in pages:
        assert len(keys) == limit or cursor is None
        seen += keys
        _, acts = steps.pop(0) if steps else (0, [])
        for act, slot in acts:
            if act == "lose":
                cache.run_sync(("FLUSHDB",))
            key = listing.happen(act, slot)
            if key is not None:
                (gone if act in ("put", "take") else moved).add(key)
    assert len(seen) == len(set(seen))
    throughout = [key for key in start if key not in gone]
    assert sorted(key for key in seen if key in throughout) == sorted(throughout)
    stayed = [key for key in throughout if key not in moved or name not in MOVING]
    assert [key for key in seen if key in stayed] == stayed


@pytest.mark.parametrize("name", MOVING)
def test_what_moves_at_the_same_time_is_seen_once(lists: Lists, name: str) -> None:
    listing = lists.shown(name)
    there = set(listing.there.values())
    over, moves = threading.Event(), Random(7)

    def move() -> None:
        while not over.is_set():
            listing.happen(moves.choice(["up", "down", "late"]), moves.randrange(SLOTS))

    mover = threading.Thread(target=move)
    mover.start()
    try:
        for limit in (1, 2, 3, 4) * 3:
            seen = [key for keys, *_ in listing.pages([limit] * 4 * SLOTS) for key in keys]
            assert sorted(key for key in seen if key in there) == sorted(there)
    finally:
        over.set()
        mover.join()


def test_walks_go_on_while_redis_stands_still(lists: Lists) -> None:
    walks: list[tuple[list[str], list[str], Pages]] = []
    for listing in map(lists.shown, MOVING):
        whole, pages = listing.keys(), listing.pages([2, 1, *[2] * SLOTS])
        seen = next(pages)[0]
        for slot in range(SLOTS):
            listing.happen("down" if listing.there[slot] in seen else "up", slot)
        walks.append((whole, seen + next(pages)[0], pages))
    with standing_still(lists.world.stack, "valkey"):
        for whole, seen, pages in walks:
            seen += [key for keys, *_ in pages for key in keys]
            assert sorted(key for key in seen if key in whole) == sorted(whole)


def test_a_cursor_is_of_one_list(lists: Lists, problem: Problem) -> None:
    cursors = {name: listing.ask(listing.reader, 1).json()["next_cursor"] for name, listing in lists.all()}
    assert all(cursors.values())
    taken: set[tuple[str, str]] = set()
    for name, listing in lists.all():
        for other, cursor in cursors.items():
            answer = listing.ask(listing.reader, 1, cursor)
            if answer.is_success:
                taken.add((name, other))
            else:
                faults = problem(answer, 422, "invalid")["errors"]
                assert [(fault["field"], fault["code"]) for fault in faults] == [("cursor", "malformed")]
    assert taken == {(name, name) for name in LISTINGS}


def test_with_anothers_cursor_one_sees_but_ones_own(lists: Lists) -> None:
    stranger = lists.world.people[2]
    for name, listing in lists.all():
        cursor = listing.ask(listing.reader, 1).json()["next_cursor"]
        answer, own = listing.ask(stranger, 100, cursor), listing.ask(stranger, 100)
        assert answer.status_code == own.status_code, name
        if own.is_success:
            shown, theirs = ({listing.key(item) for item in page.json()["items"]} for page in (answer, own))
            assert shown <= theirs, name
