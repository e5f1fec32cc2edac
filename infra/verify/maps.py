"""How maps in Redis are judged, whose fields each have a version: of relations, of engagements, of who follows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from infra.verify.kind import DROPPED, Kind, Wrong, drop, owner, shown
from shared.engagement import projection as engagement
from shared.engagement import reads as engaged
from shared.kernel import cache, ids
from shared.kernel.projection import VERSION_DIGITS
from shared.visibility import followed_by
from shared.visibility import reads as visibility

_COMPLETE: Final = "~"
_ZERO: Final = b"0" * VERSION_DIGITS
# A field's version and body, by its name.
Fields = Mapping[str, tuple[int, bytes]]
Held = dict[str, bytes]


def _map(says: Callable[[int, Held], Fields]) -> Kind:
    """Maps of which `says` makes, for an owner and what is there, the fields that should be."""

    def judge(keys: Sequence[str]) -> Iterator[Wrong]:
        held = cache.run_sync(*[("HGETALL", key) for key in keys])
        for key, reply in zip(keys, held, strict=True):
            if reply:
                has = {name.decode(): value for name, value in zip(reply[::2], reply[1::2], strict=True)}
                yield from _judge_map(key, has, says(owner(key), has))

    return Kind(judge, drop, DROPPED)


def _judge_map(key: str, has: Held, says: Fields) -> Iterator[Wrong]:
    is_complete = has.pop(_COMPLETE, None) is not None
    names = {*has, *says} if is_complete else {*has}
    for name in sorted(names):
        there, (version, body) = has.get(name, _ZERO), says.get(name, (0, b""))
        # A version that is ahead would refuse what comes; where there is nothing, Postgres may tell no version.
        is_ahead = name in says and int(there[:VERSION_DIGITS]) > version
        if is_ahead or there[VERSION_DIGITS:] != body:
            yield Wrong(key, f"{name} {shown(there)}", f"{name} {shown(b'%016d%b' % (version, body))}")
            return


def _engagements(viewer_id: int, has: Held) -> Fields:
    """From the id on that the map is complete from, all that Postgres has; of what is older, what is there."""
    floor = engagement.floor_of(has[_COMPLETE]) if _COMPLETE in has else ids.MAX
    says = engaged.fields_of(viewer_id, [ids.decode(name) for name in has if name != _COMPLETE])
    return {name: field for name, field in says.items() if name in has or ids.decode(name) >= floor}


def _followers(viewer_id: int, has: Held) -> Fields:
    """Of those who were asked about and not forgotten while Postgres was read."""
    for name in [name for name, value in has.items() if followed_by.is_unknown(value)]:
        del has[name]  # nothing is read from it
    return followed_by.fields_of(viewer_id, [ids.decode(name) for name in has])


RELATIONS: Final = _map(lambda viewer_id, _: visibility.fields_of(viewer_id))
ENGAGED: Final = _map(_engagements)
FOLLOWED_BY: Final = _map(_followers)
