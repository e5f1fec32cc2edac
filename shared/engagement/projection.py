"""What a viewer has done, in Redis, and the newest who engaged with a subject (shared/kernel/recent.py).

The map `engaged:{viewer}` has a versioned field a subject: empty where nothing is done, else `s` or `-` for saved, `r`
or `-` for reposted, and the emoji. "~" holds the id from which on the map is complete: ids grow with time, so it is
filled with the newest, and what is older comes in as it is asked for.
"""

from collections.abc import Sequence
from typing import Any, Final

from shared.engagement.model import NOTHING, Engagement, Part
from shared.engagement.store import ActRow, EngagementRow
from shared.kernel import cache, ids
from shared.kernel.projection import field_of, put_fields
from shared.kernel.recent import Recent

FILLED_WITH: Final = 1000
# A map that old subjects have made larger than this is begun anew.
MAX_FIELDS: Final = 5000
_FLOOR: Final = "~"
_FLAGS: Final = 2
# What is done of some subjects, and of which others the map doesn't tell.
Taken = tuple[dict[int, Engagement], list[int]]


# Who did what with a subject. Saving is nobody else's business.
OF_SUBJECT: Final[dict[Part, Recent[ActRow]]] = {
    "reaction": Recent("reactions", ActRow, keep=200),
    "repost": Recent("reposts", ActRow, keep=200),
}


def key(viewer_id: int) -> str:
    """Where a viewer's map is."""
    return f"engaged:{ids.encode(viewer_id)}"


def ask(viewer_id: int, subjects: Sequence[int]) -> cache.Command:
    """The command for `take`."""
    return ("HMGET", key(viewer_id), _FLOOR, *map(ids.encode, subjects))


def take(subjects: Sequence[int], reply: Any) -> Taken | None:
    """What is done of `subjects`, and those that the map doesn't tell of; None where there is no map."""
    if reply[0] is None:
        return None
    floor = ids.decode((field_of(reply[0]) or b"").decode())
    found: dict[int, Engagement] = {}
    unknown: list[int] = []
    for subject, value in zip(subjects, reply[1:], strict=True):
        if value is not None:
            found[subject] = _decoded(field_of(value) or b"")
        elif subject >= floor:
            found[subject] = NOTHING
        else:
            unknown.append(subject)
    return found, unknown


def changed(part: Part, user_id: int, subject_id: int, done: Engagement, version: int) -> list[cache.Command]:
    """The commands that project an engagement, of which `part` was changed."""
    commands = [put_fields(key(user_id), [(ids.encode(subject_id), version, _encoded(done))])]
    return [*commands, *([OF_SUBJECT[part].changed(subject_id)] if part in OF_SUBJECT else [])]


def fill(viewer_id: int, newest: Sequence[EngagementRow]) -> cache.Command:
    """The command that fills a map with the newest engagements: all there are, if they are fewer than asked for."""
    floor = newest[-1].subject_id if len(newest) == FILLED_WITH else 0
    return put_fields(key(viewer_id), [*fields(newest), (_FLOOR, 0, ids.encode(floor).encode())])


def add(viewer_id: int, subjects: Sequence[int], rows: Sequence[EngagementRow]) -> cache.Command:
    """The command that adds what Postgres said of `subjects`, nothing included."""
    nothing = [(ids.encode(subject), 0, b"") for subject in {*subjects} - {row.subject_id for row in rows}]
    return put_fields(key(viewer_id), [*fields(rows), *nothing])


def engagement_of(row: EngagementRow) -> Engagement:
    """What a row says."""
    return Engagement(row.emoji, row.saved, row.reposted)


def fields(rows: Sequence[EngagementRow]) -> list[tuple[str, int, bytes]]:
    """The fields of a map: name, version, body."""
    return [(ids.encode(row.subject_id), row.version, _encoded(engagement_of(row))) for row in rows]


def _encoded(done: Engagement) -> bytes:
    if done == NOTHING:
        return b""
    return (b"s" if done.saved else b"-") + (b"r" if done.reposted else b"-") + (done.emoji or "").encode()


def _decoded(body: bytes) -> Engagement:
    if not body:
        return NOTHING
    return Engagement(body[_FLAGS:].decode() or None, body[:1] == b"s", body[1:_FLAGS] == b"r")
