"""How lists in Redis are judged: timelines, recents, and the versions that entries of timelines were placed by."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

import msgspec

from infra.verify.kind import DROPPED, Kind, Wrong, drop, owner, short, shown
from shared.feed.model import decoded
from shared.feed.reads import belongs
from shared.kernel import cache, ids
from shared.kernel.pages import Positioned
from shared.kernel.projection import VERSION_DIGITS
from shared.kernel.recent import Recent
from shared.kernel.timeline import Timeline
from shared.posts import projection as posts
from shared.profiles import reads as users
from shared.visibility import reads as visibility

_COMPLETE: Final = "~"
_WHOLE: Final = "!"
E = TypeVar("E", bound=Positioned)


def timeline(
    timeline: Timeline, newest: Callable[[int], list[str]], seen: Callable[[int, list[str]], list[str]] | None = None
) -> Kind:
    """Timelines that `newest` fills; `seen` leaves those entries that a reader is shown."""

    def judge(keys: Sequence[str]) -> Iterator[Wrong]:
        held = cache.run_sync(*[("ZRANGE", key, "+", "-", "BYLEX", "REV") for key in keys])
        for key, members in zip(keys, held, strict=True):
            has = [member.decode() for member in members]
            # One that is not complete is being built, or will be: nobody reads it.
            if _COMPLETE in has:
                yield from judge_list(key, has[1:], newest(owner(key)))

    def judge_list(key: str, has: list[str], says: list[str]) -> Iterator[Wrong]:
        # One that is not all of the list is a beginning of it. Of more than is kept Postgres says a beginning, too;
        # with what is seen left alone, that may be the shorter one.
        is_whole, is_full = has[-1:] == [_WHOLE], len(says) >= timeline.keep
        has = has[:-1] if is_whole else has
        if seen is not None:
            has, says = seen(owner(key), has), seen(owner(key), says)
        end = None if is_whole and not (is_full and seen) else len(has)
        end = min(len(has), len(says)) if end is not None and is_full else end
        if has[:end] != says[:end]:
            first = next((at for at, pair in enumerate(zip(has, says, strict=False)) if pair[0] != pair[1]), None)
            at = min(len(has), len(says)) if first is None else first
            yield Wrong(key, _position(has, at), _position(says, at))

    def mend(keys: Sequence[str]) -> None:
        cache.run_sync(*[timeline.forget(owner(key)) for key in keys])

    return Kind(judge, mend, DROPPED)


def _position(entries: list[str], at: int) -> str:
    entry = entries[at] if at < len(entries) else "no more"
    return f"{len(entries)} entries; number {at + 1}: {entry}"


def shown_in_feed(user_id: int, entries: list[str]) -> list[str]:
    """The entries of a feed that the gate lets through: whom it hides, who tells or whose post it is, may be in it."""
    found = {text: decoded(text) for text in entries}
    people = {person for entry in found.values() for person in (entry.teller, entry.author_id)}
    relations = visibility.between(user_id, list(people))
    return [text for text, entry in found.items() if belongs(user_id, entry, relations)]


def recent(recent: Recent[E], newest: Callable[[int], list[E]], post_of: Callable[[E], int] | None = None) -> Kind:
    """Recents that `newest` fills; with `post_of`, those of posts that were deleted since may be in it."""

    def judge(keys: Sequence[str]) -> Iterator[Wrong]:
        (there,) = cache.run_sync(("MGET", *keys))
        for key, value in zip(keys, there, strict=True):
            if value is None:
                continue
            says = newest(owner(key))
            if value != msgspec.msgpack.encode(says):
                has = _entries(recent, value)
                if has is None:
                    yield Wrong(key, "what can't be read", _positions(says))
                elif not _alike(has, says):
                    yield Wrong(key, _positions(has), _positions(says))

    def _alike(has: list[E], says: list[E]) -> bool:
        if post_of is None:
            return has == says
        # A deleted post is hidden by its own card, and makes place for what is older.
        left = _of_posts_there(has, post_of)
        return left == says[: len(left)] and (len(left) == len(says) or len(has) >= recent.keep)

    def mend(keys: Sequence[str]) -> None:
        cache.run_sync(*[command for key in keys for command in recent.changed(owner(key))])

    return Kind(judge, mend, DROPPED)


def _of_posts_there(entries: list[E], post_of: Callable[[E], int]) -> list[E]:
    there = {row.id for row in posts.load(map(post_of, entries)) if row.deleted_at is None}
    return [entry for entry in entries if post_of(entry) in there]


def _entries(recent: Recent[E], value: bytes) -> list[E] | None:
    try:
        return recent.decoded(value)
    except msgspec.DecodeError:
        return None


def _positions(entries: Sequence[Any]) -> str:
    return short(f"{len(entries)}: {', '.join(ids.encode(entry.position) for entry in entries)}")


def pair_of(key: str) -> tuple[int, int]:
    """Of whom a key tells how the first stands to the second: the two ids that it ends with. Raises ValueError."""
    both = key.rpartition(":")[2]
    return ids.decode(both[: ids.LENGTH]), ids.decode(both[ids.LENGTH :])


def _judge_placed(keys: Sequence[str]) -> Iterator[Wrong]:
    (there,) = cache.run_sync(("MGET", *keys))
    pairs = [pair_of(key) for key in keys]
    versions = {(row.follower_id, row.followee_id): row.version for row in users.follows_among(pairs)}
    for key, pair, value in zip(keys, pairs, there, strict=True):
        # One that is behind is overtaken by the next change; one that is ahead would refuse it.
        wanted = b"%0*d" % (VERSION_DIGITS, versions.get(pair, 0))
        if value is not None and value > wanted:
            yield Wrong(key, shown(value), shown(wanted))


PLACED: Final = Kind(_judge_placed, drop, "dropped; the next change places anew")
