"""The newest notifications of a user in Redis: `notifications:{user}`, one value of up to 100 entries.

What changes them takes the value away, after the commit, and its event does so again; the next read fills it. A fill
that read before a change and comes after it would bring back the old: so a fill names the generation it began with, and
a change moves that on.

The value is what its owner may see, so it goes too when the owner blocks, mutes or is blocked, or takes that back. When
an actor is gone, it stays until it ends: their card is gone at once, their count within the hour.
"""

from typing import Final, cast

import msgspec

from shared.kernel import cache, ids
from shared.notifications.model import Subject, SubjectType
from shared.notifications.store import GroupRow

KEPT: Final = 100
TTL_SECONDS: Final = 3600
_GENERATION_SECONDS: Final = 2 * TTL_SECONDS

_FILL: Final = cache.Script("""
if (redis.call('GET', KEYS[2]) or '') == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3]) end
""")


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A notification but for its actors' cards: the id that orders it, its JSON up to them, and who they are."""

    latest_id: int
    head: bytes
    actors: list[int]


class _Head(msgspec.Struct, frozen=True):
    id: str
    type: str
    subject: Subject
    actor_count: int
    at: int
    unread: bool


_decoder: Final = msgspec.msgpack.Decoder(list[Entry])


def entry_of(group: GroupRow) -> Entry:
    """The cached form of a group that has an actor who is seen."""
    kind, _, name = group.subject.partition(":")
    head = _Head(
        id=ids.encode(group.id),
        type=group.type,
        subject=Subject(cast("SubjectType", kind), name),
        actor_count=group.actor_count,
        at=ids.made_at(group.seen_id or 0),
        unread=group.unread,
    )
    return Entry(group.latest_id or 0, msgspec.json.encode(head)[:-1], group.actors)


def _key(user_id: int) -> str:
    return f"notifications:{ids.encode(user_id)}"


def _generation(user_id: int) -> str:
    return f"notifications:generation:{ids.encode(user_id)}"


def ask(user_id: int) -> cache.Command:
    """The command for `take`."""
    return ("MGET", _key(user_id), _generation(user_id))


def take(reply: list[bytes | None]) -> tuple[list[Entry] | None, bytes]:
    """The entries in the reply, None for a miss, and the generation to fill it with."""
    return (None if reply[0] is None else _decoder.decode(reply[0])), reply[1] or b""


def fill(user_id: int, generation: bytes, entries: list[Entry]) -> cache.Command:
    """The command that fills what was a miss."""
    return _FILL.command(
        [_key(user_id), _generation(user_id)], [generation, msgspec.msgpack.encode(entries), TTL_SECONDS]
    )


def changed(user_id: int) -> list[cache.Command]:
    """The commands to run after a change was committed."""
    return [
        ("SET", _generation(user_id), str(ids.new_id()), "EX", _GENERATION_SECONDS),
        ("DEL", _key(user_id)),
    ]
