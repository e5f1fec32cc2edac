"""Walks over lists whose entries move: what the cursor holds, and where that ends."""

import asyncio
from collections.abc import Iterator, Sequence

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.local.stack import Stack
from shared.kernel import cache, db, ids
from shared.kernel.moving import MOST, Walk, page, wanted_sql
from shared.kernel.pages import PageQuery, cursor
from shared.kernel.problems import Invalid
from shared.kernel.recent import Recent


class Entry(msgspec.Struct, frozen=True, array_like=True):
    position: int
    id: int


RECENT = Recent("moving", Entry, keep=5)
WANTED = db.Statement(
    f"""SELECT e.position, e.id
          FROM unnest(CAST(:positions AS bigint[]), CAST(:ids AS bigint[])) AS e (position, id)
         WHERE {wanted_sql("e.position", "e.id")} ORDER BY e.position DESC LIMIT :limit""",
    Entry,
)


class Listing:
    """A list in Postgres's place: each entry's id, and where it is."""

    def __init__(self, size: int):
        self.owner = ids.new_id()
        # Random ids, as ids are, and all made before any walk.
        self.at = {ids.new_id() - (1 << 40): n for n in range(1, size + 1)}

    def load(self, walk: Walk, count: int) -> list[Entry]:
        with db.connection() as conn:
            return WANTED.all(conn, positions=[*self.at.values()], ids=[*self.at], limit=count, **walk.parameters())

    def move(self, entry_id: int, position: int) -> None:
        self.at[entry_id] = position
        cache.run_sync(RECENT.changed(self.owner))

    def in_order(self) -> list[int]:
        return sorted(self.at, key=lambda entry_id: -self.at[entry_id])

    def page(self, limit: int, after: str | None) -> tuple[list[int], str | None]:
        async def visible(found: Sequence[Entry]) -> list[tuple[int, bytes]]:
            return [(entry.position, b"%d" % entry.id) for entry in found]

        async def ask() -> bytes:
            try:
                return (await page("z", PageQuery(limit, after), RECENT, self.owner, self.load, visible)).json
            finally:
                cache.disconnect()

        answer = msgspec.json.decode(asyncio.run(ask()))
        return answer["items"], answer["next_cursor"]


@pytest.fixture
def listing(stack: Stack) -> Iterator[Listing]:
    made = Listing(30)
    yield made
    cache.run_sync(("DEL", RECENT.key(made.owner)))


def test_what_moves_is_seen_once_also_beyond_what_redis_keeps(listing: Listing) -> None:
    order = listing.in_order()
    seen, after = listing.page(10, None)
    assert seen == order[:10]
    listing.move(order[3], 0)  # seen, and goes to the end
    listing.move(order[20], 99)  # still to come, and comes first
    listing.move(order[25], listing.at[order[8]])  # or somewhere among those seen
    for n in range(6):
        # Came since; in the same millisecond it might come along.
        listing.move(ids.new_id() + (10 << ids.RANDOM_BITS), 200 + n)
    rest: list[int] = []
    while after is not None:
        found, after = listing.page(4, after)
        rest += found
    assert rest[:2] == [order[20], order[25]]
    assert rest[2:] == [one for one in order[10:] if one not in rest[:2]]


def test_what_comes_below_the_cursor_is_seen_also_by_a_clock_that_is_ahead(listing: Listing) -> None:
    _, after = listing.page(10, None)
    ahead = ids.new_id() + (10_000 << ids.RANDOM_BITS)
    listing.move(ahead, 0)
    assert listing.page(100, after)[0][-1] == ahead


def test_a_walk_past_a_thousand_goes_on_by_position(stack: Stack) -> None:
    listing = Listing(MOST + 300)
    order = listing.in_order()
    seen: list[int] = []
    after, longest = None, 0
    while True:
        found, after = listing.page(100, after)
        seen += found
        if after is None:
            break
        longest = max(longest, len(after))
    assert seen == order
    assert 6_000 < longest < 7_000


@pytest.mark.parametrize(
    "more",
    [b"\0", bytes(8), b"\x80" + bytes(12), b"\x7f" + b"\xff" * 12, bytes(8 + 5 * (MOST + 1))],
)
def test_a_cursor_that_no_walk_made_is_refused(listing: Listing, more: bytes) -> None:
    with pytest.raises(Invalid):
        listing.page(10, cursor("z", 9, more))
    # Nor is one of a walk taken by a list whose entries stay.
    with pytest.raises(Invalid):
        PageQuery(10, cursor("z", 9, more)).before("z")


SMALL = st.integers(0, 20)
WALKS = st.builds(Walk, before=SMALL, began=SMALL, passed=st.frozensets(SMALL))


@pytest.mark.usefixtures("stack")
@given(walk=WALKS, places=st.dictionaries(SMALL, SMALL, max_size=10))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_postgres_wants_what_is_wanted(walk: Walk, places: dict[int, int]) -> None:
    with db.connection() as conn:
        found = WANTED.all(conn, positions=[*places.values()], ids=[*places], limit=100, **walk.parameters())
    wanted = [entry for one, at in places.items() if walk.wants(entry := Entry(at, one))]
    assert sorted(entry.id for entry in found) == sorted(entry.id for entry in wanted)
