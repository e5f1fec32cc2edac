"""Timelines: complete only with what is there, whatever happens while one is built."""

import itertools

import pytest

from shared.kernel import cache, ids
from shared.kernel.timeline import Place, Timeline, place
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


def test_a_list_that_is_all_there_is_said_to_be_until_its_oldest_go() -> None:
    cache.run_sync(LIST.fill(OWNER, begin(), [entry(n) for n in range(4)]))
    assert ended()
    cache.run_sync(LIST.add(OWNER, [entry(8)]))
    assert held() == [8, 3, 2, 1, 0]
    cache.run_sync(LIST.add(OWNER, [entry(9)]))
    assert held() == [9, 8, 3, 2, 1]
    assert not ended()


def test_a_list_filled_to_the_brim_may_have_more_behind_it() -> None:
    cache.run_sync(LIST.fill(OWNER, begin(), [entry(n) for n in range(5)]))
    assert not ended()


def test_what_is_older_than_all_it_has_is_not_put_in_for_what_is_between_may_be_missing() -> None:
    cache.run_sync(LIST.fill(OWNER, begin(), [entry(n) for n in range(10, 15)]))
    cache.run_sync(LIST.remove(OWNER, [entry(14)]), LIST.add(OWNER, [entry(2)]))
    assert held() == [13, 12, 11, 10]
    cache.run_sync(LIST.add(OWNER, [entry(20)]), LIST.add(OWNER, [entry(19)]), LIST.add(OWNER, [entry(18)]))
    assert held() == [20, 19, 18, 13, 12]


def test_one_that_shrank_to_half_is_built_again_unless_it_is_whole() -> None:
    cache.run_sync(LIST.fill(OWNER, begin(), [entry(n) for n in range(10, 15)]))
    cache.run_sync(*[LIST.remove(OWNER, [entry(n)]) for n in (14, 13, 12)])
    assert held() == [11, 10]
    cache.run_sync(LIST.remove(OWNER, [entry(11)]))
    assert held() is None
    cache.run_sync(LIST.fill(OWNER, begin(), [entry(1), entry(2)]), LIST.remove(OWNER, [entry(2)]))
    cache.run_sync(LIST.add(OWNER, [entry(0)]))
    assert held() == [1, 0]


def ended() -> bool:
    return LIST.take(cache.run_sync(*LIST.ask(OWNER, None, 10)), 10).ended


class TestPlaces:
    """One entry for each other, the newest version of it, in any order."""

    def put(self, whose: int, version: int, n: int | None, owner: int = OWNER) -> None:
        member = None if n is None else self.entry(n, whose)
        cache.run_sync(place(ids.encode(whose), version, [Place(LIST, owner, whose, member)]))

    def entry(self, n: int, whose: int) -> str:
        return entry(n) + entry(whose)

    def held(self) -> list[tuple[int, int]] | None:
        found = LIST.take(cache.run_sync(*LIST.ask(OWNER, None, 10)), 10)
        parts = [(ids.decode(member[: ids.LENGTH]), ids.decode(member[ids.LENGTH :])) for member in found.entries]
        return parts if found.complete else None

    @pytest.mark.parametrize("order", list(itertools.permutations(((1, 3), (2, None), (3, 5)))))
    def test_any_order_ends_the_same(self, order: tuple[tuple[int, int | None], ...]) -> None:
        cache.run_sync(LIST.fill(OWNER, begin(), [self.entry(4, 70)]))
        for version, n in [*order, *order]:
            self.put(71, version, n)
        assert self.held() == [(5, 71), (4, 70)]
        self.put(71, 4, None)
        self.put(71, 3, 5)
        assert self.held() == [(4, 70)]

    def test_what_was_filled_in_is_found_to_be_taken_out(self) -> None:
        cache.run_sync(LIST.fill(OWNER, begin(), [self.entry(4, 70), self.entry(3, 71)]))
        self.put(70, 2, None)
        assert self.held() == [(3, 71)]

    def test_nobody_else_has_a_list_made(self) -> None:
        self.put(70, 1, 4)
        assert cache.run_sync(("EXISTS", LIST.key(OWNER))) == [0]

    def test_what_is_placed_while_one_is_built_is_there(self) -> None:
        mark = begin()
        self.put(70, 1, 4)
        cache.run_sync(LIST.fill(OWNER, mark, [self.entry(3, 71)]))
        assert self.held() == [(4, 70), (3, 71)]

    def test_what_is_taken_out_while_one_is_built_is_not_put_back(self) -> None:
        mark = begin()
        self.put(70, 2, None)
        cache.run_sync(LIST.fill(OWNER, mark, [self.entry(4, 70), self.entry(3, 71)]))
        assert self.held() is None

    def test_no_gap_before_what_is_older_than_all_it_has(self) -> None:
        cache.run_sync(LIST.fill(OWNER, begin(), [self.entry(n, 70 + n) for n in range(10, 15)]))
        self.put(80, 2, None)
        self.put(71, 1, 1)
        assert self.held() == [(n, 70 + n) for n in (14, 13, 12, 11)]
        self.put(72, 1, 20)
        assert self.held() == [(20, 72), *[(n, 70 + n) for n in (14, 13, 12, 11)]]

    def test_one_that_shrank_to_half_is_built_again(self) -> None:
        cache.run_sync(LIST.fill(OWNER, begin(), [self.entry(n, 70 + n) for n in range(10, 15)]))
        for whose in (80, 81, 82, 83):
            self.put(whose, 2, None)
        assert self.held() is None
        cache.run_sync(LIST.fill(OWNER, begin(), [self.entry(1, 71), self.entry(2, 72)]))
        self.put(71, 2, None)
        self.put(72, 2, None)
        assert self.held() == []
