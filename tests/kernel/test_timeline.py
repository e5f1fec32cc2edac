"""Timelines: complete only with what is there, whatever happens while one is built."""

import pytest

from shared.kernel import cache, ids
from shared.kernel.timeline import Timeline
from tests.servers import Servers

LIST = Timeline("list", keep=5)
OWNER = 7
CAUSE = 8


def entry(n: int) -> str:
    return ids.encode(n)


@pytest.fixture(autouse=True)
def empty(servers: Servers) -> None:
    cache.run_sync(("FLUSHDB",))


def begin() -> bytes:
    (mark,) = cache.run_sync(LIST.begin_building(OWNER))
    return mark


def held(before: int | None = None) -> list[int] | None:
    """The entries of a complete timeline; None of one that is not."""
    found = LIST.take(cache.run_sync(*LIST.ask(OWNER, before, 10)), 10)
    return [ids.decode(member) for member in found.entries] if found.complete else None


def test_a_fill_completes_it_with_what_was_added_meanwhile() -> None:
    cache.run_sync(LIST.add(OWNER, [entry(1)]))
    mark = begin()
    cache.run_sync(LIST.add(OWNER, [entry(9)]))
    assert held() is None
    cache.run_sync(LIST.fill(OWNER, mark, [entry(3), entry(2)]))
    assert held() == [9, 3, 2]
    cache.run_sync(LIST.add_to_all([OWNER, OWNER + 1], [entry(10)]))
    assert held() == [10, 9, 3, 2]
    assert held(before=9) == [3, 2]


def test_the_newest_are_kept() -> None:
    cache.run_sync(LIST.fill(OWNER, begin(), [entry(n) for n in range(10)]))
    assert held() == [9, 8, 7, 6, 5]


def test_a_fill_that_began_before_a_drop_completes_nothing() -> None:
    mark = begin()
    cache.run_sync(LIST.drop(OWNER, CAUSE, 1))
    cache.run_sync(LIST.fill(OWNER, mark, [entry(1)]))
    assert held() is None
    later = begin()
    cache.run_sync(LIST.fill(OWNER, mark, [entry(1)]))
    assert held() is None
    cache.run_sync(LIST.fill(OWNER, later, [entry(2)]))
    assert held() == [2]


def test_a_drop_is_done_once_a_version_of_its_cause() -> None:
    cache.run_sync(LIST.drop(OWNER, CAUSE, 2))
    cache.run_sync(LIST.fill(OWNER, begin(), [entry(1)]))
    cache.run_sync(LIST.drop(OWNER, CAUSE, 2), LIST.drop(OWNER, CAUSE, 1))
    assert held() == [1]
    cache.run_sync(LIST.drop(OWNER, CAUSE + 1, 1))
    assert held() is None
    cache.run_sync(LIST.fill(OWNER, begin(), [entry(1)]), LIST.drop(OWNER, CAUSE, 10))
    assert held() is None


def test_what_is_removed_while_one_is_built_is_not_put_back() -> None:
    mark = begin()
    cache.run_sync(LIST.remove_from_all([OWNER, OWNER + 1], [entry(1)]))
    cache.run_sync(LIST.fill(OWNER, mark, [entry(2), entry(1)]))
    assert held() is None
    cache.run_sync(LIST.fill(OWNER, begin(), [entry(2)]))
    assert held() == [2]


def test_nothing_of_a_build_that_came_to_nothing_is_left() -> None:
    begin()
    cache.run_sync(LIST.add(OWNER, [entry(1)]), LIST.remove(OWNER, [entry(2)]))
    cache.run_sync(LIST.fill(OWNER, begin(), [entry(3)]))
    assert held() == [3]


def test_who_builds_at_once_completes_it_together() -> None:
    one, two = begin(), begin()
    cache.run_sync(LIST.add(OWNER, [entry(9)]))
    cache.run_sync(LIST.fill(OWNER, two, [entry(1)]))
    cache.run_sync(LIST.fill(OWNER, one, [entry(1)]))
    assert held() == [9, 1]
