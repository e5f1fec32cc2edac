"""Pages of lists: the query that asks for one, its cursor, its answer."""

import base64
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Annotated, ClassVar, Final, Generic, Protocol, TypeVar

import msgspec

from shared.kernel import ids
from shared.kernel.codec import Rules
from shared.kernel.endpoint import Encoded
from shared.kernel.problems import FieldError, Invalid

T = TypeVar("T")


class Positioned(Protocol):
    """An entry of a list."""

    @property
    def position(self) -> int:
        """The id that orders it."""
        ...


E = TypeVar("E", bound=Positioned)


_HEAD: Final = 1 + ids.LENGTH


def _read_cursor(text: str) -> tuple[str, int, bytes] | None:
    """The list's letter, the position and what else is in a cursor; None for what is none."""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        head = raw[:_HEAD].decode("ascii")
        return head[:1], ids.decode(head[1:]), raw[_HEAD:]
    except (ValueError, UnicodeError):
        return None


def _cursor_faults(text: str | None) -> list[FieldError]:
    if text is None or _read_cursor(text):
        return []
    return [FieldError("cursor", "malformed", "This is not a cursor.")]


class PageQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which page of a list: at most `limit` items, after `cursor` (from the page before)."""

    RULES: ClassVar[Rules] = {"cursor": _cursor_faults}

    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 20
    cursor: str | None = None

    def before(self, kind: str) -> int | None:
        """The position in the cursor: items older than this id come next. None is the start.

        `kind` is the list's own letter, so that a cursor of one list is refused by another.
        """
        position, more = self.place(kind)
        if more:
            raise foreign()
        return position

    def place(self, kind: str) -> tuple[int | None, bytes]:
        """As `before`, and what else a list keeps in its cursors (shared/kernel/moving.py)."""
        if self.cursor is None:
            return None, b""
        letter, position, more = _read_cursor(self.cursor) or (None, 0, b"")
        if letter != kind:
            raise foreign()
        return position, more


class Page(msgspec.Struct, Generic[T], frozen=True):
    """One page of a list. `next_cursor` is null on the last."""

    items: list[T]
    next_cursor: str | None


def foreign() -> Invalid:
    """What is said to who brings a cursor that another list made, or none."""
    return Invalid.field("cursor", "malformed", "This is not a cursor of this list.")


def cursor(kind: str, position: int, more: bytes = b"") -> str:
    """The opaque cursor for what comes after the item at `position`."""
    return base64.urlsafe_b64encode(f"{kind}{ids.encode(position)}".encode() + more).rstrip(b"=").decode()


def join(items: Sequence[bytes], next_cursor: str | None) -> Encoded:
    """A page of items that are encoded already."""
    end = b"null" if next_cursor is None else b'"%b"' % next_cursor.encode()
    return Encoded(b'{"items":[%b],"next_cursor":%b}' % (b",".join(items), end))


async def refilled(
    kind: str,
    query: PageQuery,
    entries: Callable[[int | None, int], Awaitable[Sequence[E]]],
    visible: Callable[[Sequence[E]], Awaitable[list[tuple[int, bytes]]]],
) -> Encoded:
    """A page of what `visible` lets through of a list, as (position, encoded item); never short for what it does not.

    `entries` gives up to so many of the list that are older than a position, newest first.
    """
    return await filled(query.before(kind), query.limit, entries, visible, partial(cursor, kind))


async def filled(
    before: int | None,
    limit: int,
    entries: Callable[[int | None, int], Awaitable[Sequence[E]]],
    visible: Callable[[Sequence[E]], Awaitable[list[tuple[int, bytes]]]],
    place: Callable[[int], str],
) -> Encoded:
    """`refilled` from a position on; `place` gives the cursor for what comes after one."""
    items: list[bytes] = []
    while True:
        wanted = limit - len(items) + 1
        found = await entries(before, wanted)
        for position, item in await visible(found):
            if len(items) == limit:
                return join(items, place(before or 0))
            items.append(item)
            before = position
        if len(found) < wanted:
            return join(items, None)
        before = found[-1].position
        if len(items) == limit:
            # The last one asked for was hidden; whether more follow is for the next page to say.
            return join(items, place(before))
