"""Pages of lists whose entries move: a chat comes first with each message, a post goes back when a comment is deleted.

Where such an entry is says neither that it was shown nor that it was not: it may have come from below the cursor, or
gone there. So the cursor holds which entries the walk has passed, 40 bits of each one's id, and when the walk began.
What it has not passed comes on the next page, wherever it is by then; nothing comes twice; what was made
after the walk began is left out. Nothing is kept for a walk: with Redis or without it is the same.

Two of a thousand entries have the same 40 bits in one of two million walks. A cursor is to fit in a URL: a walk that
has passed a thousand, 7 KB, goes on by position alone.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec

from shared.kernel import cache, guard, ids
from shared.kernel.endpoint import Encoded
from shared.kernel.pages import PageQuery, Positioned, cursor, filled, foreign
from shared.kernel.recent import Owner, Recent

_ID_BYTES: Final = 8
_BYTES: Final = 5
_MASK: Final = (1 << 8 * _BYTES) - 1
MOST: Final = 1000


class Moving(Positioned, Protocol):
    """An entry that may move. Its id does not change, and was made no later than it came into the list."""

    @property
    def id(self) -> int:
        """What it is, wherever it is."""
        ...


E = TypeVar("E", bound=Moving)


class Walk(msgspec.Struct, frozen=True):
    """How far a reader has come: down to `before`, and past the ids that end in one of `passed`.

    Ids after `began` are newer than the walk. It is 0 where the walk goes by position alone.
    """

    before: int = ids.MAX
    began: int = ids.MAX
    passed: frozenset[int] = frozenset()

    def wants(self, entry: Moving) -> bool:
        """Whether an entry is still to come."""
        return (entry.position < self.before or entry.id <= self.began) and entry.id & _MASK not in self.passed

    def parameters(self) -> dict[str, Any]:
        """Those of a statement with `wanted_sql`."""
        below = ids.MAX if self.began else self.before
        return {"below": below, "before": self.before, "began": self.began, "passed": list(self.passed)}

    def past(self, entries: Sequence[Moving]) -> "Walk":
        """The walk after it has come past these too."""
        before = min([self.before, *[entry.position for entry in entries]])
        passed = self.passed.union([entry.id & _MASK for entry in entries])
        if not self.began or len(passed) > MOST:
            return Walk(before, 0)
        return Walk(before, ids.until_now() if self.began == ids.MAX else self.began, passed)

    def cursor(self, kind: str) -> str:
        """The cursor for what comes next."""
        if not self.began:
            return cursor(kind, self.before)
        more = [self.began.to_bytes(_ID_BYTES, "big"), *[one.to_bytes(_BYTES, "big") for one in self.passed]]
        return cursor(kind, self.before, b"".join(more))


def wanted_sql(position: str, id: str) -> str:
    """`Walk.wants` for SQL, of expressions that are an entry's position and its id: for an index range by position."""
    return f"""{position} < :below AND ({position} < :before OR {id} <= :began)
          AND ({id} & {_MASK}) <> ALL(CAST(:passed AS bigint[]))"""


async def page(
    kind: str,
    query: PageQuery,
    recent: Recent[E],
    owner: Owner,
    load: Callable[[Walk, int], list[E]],
    visible: Callable[[Sequence[E]], Awaitable[list[tuple[int, bytes]]]],
) -> Encoded:
    """A page of what `visible` lets through of a list, never short for what it does not (shared/kernel/pages.py).

    `load` gives up to so many of the list that the walk wants, of Postgres.
    """
    walk = _read(kind, query)
    found: list[E] = []

    async def entries(_: int | None, count: int) -> list[E]:
        nonlocal walk, found
        walk = walk.past(found) if found else walk
        reply: Any = None
        try:
            (reply,) = await guard.first(recent.ask(owner))
        except cache.CacheUnavailable:
            pass  # Postgres has the list too
        begins = walk.began == ids.MAX
        found = await recent.take(
            owner,
            reply,
            None,
            count,
            lambda _, most: load(Walk(), most),
            chosen=None if begins else walk.wants,
            load_chosen=lambda _, most: load(walk, most),
        )
        return found

    def place(position: int) -> str:
        return walk.past([entry for entry in found if entry.position >= position]).cursor(kind)

    return await filled(None, query.limit, entries, visible, place)


def _read(kind: str, query: PageQuery) -> Walk:
    """The walk that a cursor goes on with. Raises Invalid."""
    before, more = query.place(kind)
    if before is None:
        return Walk()
    if not more:
        return Walk(before, 0)
    began, passed = int.from_bytes(more[:_ID_BYTES], "big"), more[_ID_BYTES:]
    if began >= ids.MAX or len(passed) % _BYTES or not 0 < len(passed) <= MOST * _BYTES:
        raise foreign()
    parts = [int.from_bytes(passed[at : at + _BYTES], "big") for at in range(0, len(passed), _BYTES)]
    return Walk(before, began, frozenset(parts))
