"""Going through all that is projected, batch by batch, while the system serves.

What is compared may be changing: a difference is one only if it is still there each time that it is looked at again.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from infra.verify.kinds import ALL, GRAPH_FOLLOWS, GRAPH_USERS, Wrong, follow_key, kind_of
from shared.graph import projection as graph
from shared.kernel import cache, ids
from shared.profiles import reads as profiles

BATCH: Final = 500
# Between one look at what differs and the next: events on their way arrive meanwhile.
PAUSES: Final = (0.5, 1.0, 2.0, 4.0)


class Difference(NamedTuple):
    """Something that is not as Postgres says."""

    kind: str
    key: str
    has: str
    says: str


class Found(NamedTuple):
    """How many of each kind were compared, and what differs."""

    compared: Counter[str]
    differences: list[Difference]


def verify(told: Callable[[str, int], None] = lambda kind, count: None) -> Found:
    """Compare everything. `told` hears how many of a kind were compared, as it goes on.

    Raises CacheUnavailable, DatabaseUnavailable, GraphUnavailable.
    """
    compared: Counter[str] = Counter()
    suspects: dict[str, dict[str, Wrong]] = {}
    for kind, keys in _everything():
        suspects.setdefault(kind, {}).update(_judged(kind, keys))
        compared[kind] += len(keys)
        told(kind, len(keys))
    for pause in PAUSES:
        if not any(suspects.values()):
            break
        time.sleep(pause)
        suspects = {kind: _judged(kind, list(wrong)) for kind, wrong in suspects.items()}
    return Found(compared, [Difference(kind, *wrong) for kind, found in suspects.items() for wrong in found.values()])


def repair(differences: list[Difference]) -> dict[str, str]:
    """Bring what differs up to date; what was done, by kind. Raises as `verify`."""
    done: dict[str, str] = {}
    for kind in dict.fromkeys(difference.kind for difference in differences):
        ALL[kind].mend([difference.key for difference in differences if difference.kind == kind])
        done[kind] = ALL[kind].mended
    return done


def _judged(kind: str, keys: list[str]) -> dict[str, Wrong]:
    found: dict[str, Wrong] = {}
    for start in range(0, len(keys), BATCH):
        found |= {wrong.key: wrong for wrong in ALL[kind].judge(keys[start : start + BATCH])}
    return found


def _everything() -> Iterator[tuple[str, list[str]]]:
    yield from _redis()
    yield from _graph()


def _redis() -> Iterator[tuple[str, list[str]]]:
    """The keys in Redis by kind, a batch at a time; those that pass are left out."""
    waiting: dict[str, list[str]] = {}
    for key in cache.redis().scan_iter(count=BATCH):
        name = key.decode(errors="replace")
        if kind := kind_of(name):
            batch = waiting.setdefault(kind, [])
            batch.append(name)
            if len(batch) == BATCH:
                yield kind, waiting.pop(kind)
    yield from waiting.items()


def _graph() -> Iterator[tuple[str, list[str]]]:
    """The users and follows that the graph or Postgres has, a batch at a time."""
    after = 0
    while True:
        known, projected = profiles.ids_after(after, BATCH), graph.ids_after(after, BATCH)
        # Of both as far as both have been read.
        end = min(found[-1] if len(found) == BATCH else ids.MAX for found in (known, projected))
        batch = sorted({user_id for user_id in (*known, *projected) if user_id <= end})
        if batch:
            yield GRAPH_USERS, [ids.encode(user_id) for user_id in batch]
            pairs = sorted({*profiles.follows_of(batch), *graph.follows_of(batch)})
            for start in range(0, len(pairs), BATCH):
                yield GRAPH_FOLLOWS, [follow_key(pair) for pair in pairs[start : start + BATCH]]
        if end == ids.MAX:
            return
        after = end
