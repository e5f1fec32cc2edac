"""How the lists and maps are judged that say who engaged with what, and who follows whom."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from infra.verify.judging import DROPPED, Kind, Wrong, drop, judge_map, owner, short, shown
from shared.comments import projection as comments
from shared.engagement import reads as engagement
from shared.kernel import cache, ids
from shared.kernel.projection import VERSION_DIGITS
from shared.kernel.recent import MARK, Recent
from shared.posts import projection as posts
from shared.profiles import reads as users
from shared.visibility import followed_by

_FLOOR = "~"
_UNKNOWN = b"?"


def recent(
    kept: Recent[Any],
    newest: Callable[[Any], list[Any]],
    there: Callable[[int, list[Any]], list[Any]] | None = None,
    whose: Callable[[str], Any] = owner,
) -> Kind:
    """Lists kept as one value, which `newest` fills; `there` leaves the entries that are still to be seen."""

    def judge(keys: Sequence[str]) -> Iterator[Wrong]:
        (there,) = cache.run_sync(("MGET", *keys))
        for key, value in zip(keys, there, strict=True):
            if value is None or value.startswith(MARK):
                continue
            says = newest(whose(key))
            has = kept.decoded(value)
            if has is None or not alike(whose(key), has, says):
                yield Wrong(key, "what can't be read" if has is None else _listed(has), _listed(says))

    def alike(owner: Any, has: list[Any], says: list[Any]) -> bool:
        if has == says or there is None:
            return has == says
        # What is there no more made place for what is older.
        left = there(owner, has)
        return left == says[: len(left)] and (len(left) == len(says) or len(has) >= kept.keep)

    def mend(keys: Sequence[str]) -> None:
        for key in keys:
            cache.run_sync(kept.changed(whose(key)))

    return Kind(judge, mend, DROPPED)


def _listed(entries: list[Any]) -> str:
    return short(f"{len(entries)}: {', '.join(map(str, entries))}")


def _judge_engaged(keys: Sequence[str]) -> Iterator[Wrong]:
    for key, has in _maps(keys):
        floor = has.get(_FLOOR)
        subjects = [ids.decode(name) for name in has if name != _FLOOR]
        says = engagement.fields_of(owner(key), subjects)
        since = None if floor is None else floor[VERSION_DIGITS:].decode()
        # From its floor on the map tells of everything, and below it of what it has.
        says = {name: said for name, said in says.items() if name in has or (since is not None and name >= since)}
        # Of what was erased nobody asks any more.
        gone = erased(ids.decode(name) for name in has if name != _FLOOR and name not in says)
        has = {name: value for name, value in has.items() if name == _FLOOR or ids.decode(name) not in gone}
        yield from judge_map(key, has, says)


def erased(subjects: Iterable[int]) -> set[int]:
    """Those of these subjects that nobody may ask of any more: posts that are deleted, or what is not there at all."""
    asked = {*subjects}
    there = {row.id for row in posts.load(asked) if row.deleted_at is None}
    return asked - there - {row.id for row in comments.load(asked)}


def _judge_followed_by(keys: Sequence[str]) -> Iterator[Wrong]:
    for key, there in _maps(keys):
        # Of who deleted their account nobody asks any more.
        active = {ids.encode(state.id) for state in users.states_of(list(map(ids.decode, there))) if state.active}
        known = {name: value for name, value in there.items() if value[VERSION_DIGITS:] != _UNKNOWN}
        has = {name: value for name, value in known.items() if name in active}
        yield from judge_map(key, has, followed_by.fields_of(owner(key), [ids.decode(name) for name in has]))


def _maps(keys: Sequence[str]) -> Iterator[tuple[str, dict[str, bytes]]]:
    held = cache.run_sync(*[("HGETALL", key) for key in keys])
    for key, reply in zip(keys, held, strict=True):
        if reply:
            yield key, {name.decode(): value for name, value in zip(reply[::2], reply[1::2], strict=True)}


def pair_of(key: str) -> tuple[int, int]:
    """Of whom a key tells how the first stands to the second: the two ids that it ends with. Raises ValueError."""
    both = key.rpartition(":")[2]
    return ids.decode(both[: ids.LENGTH]), ids.decode(both[ids.LENGTH :])


def _judge_placed(keys: Sequence[str]) -> Iterator[Wrong]:
    (there,) = cache.run_sync(("MGET", *keys))
    pairs = [pair_of(key) for key in keys]
    versions = {(row.follower_id, row.followee_id): row.version for row in users.follows_among(pairs)}
    for key, pair, value in zip(keys, pairs, there, strict=True):
        # One that is behind is overtaken by the next change; one that is ahead would refuse it. Of who deleted their
        # account there is nothing left, and nothing comes.
        wanted = b"%0*d" % (VERSION_DIGITS, versions.get(pair, 0))
        if value is not None and pair in versions and value > wanted:
            yield Wrong(key, shown(value), shown(wanted))


PLACED = Kind(_judge_placed, drop, "dropped; the next change places anew")
ENGAGED = Kind(_judge_engaged, drop, DROPPED)
FOLLOWED_BY = Kind(_judge_followed_by, drop, DROPPED)
