"""The newest notifications of a user in Redis: `notifications:{user}`, one value of up to 100 groups.

What changes them takes the value away, after the commit; the next read fills it. A fill that read before a change and
comes after it would bring back the old: so a fill names the generation it began with, and a change moves that on.
"""

from typing import Final

import msgspec

from shared.kernel import cache, ids
from shared.notifications.store import GroupRow

KEPT: Final = 100
TTL_SECONDS: Final = 3600
_GENERATION_SECONDS: Final = 2 * TTL_SECONDS

_FILL: Final = cache.Script("""
if (redis.call('GET', KEYS[2]) or '') == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3]) end
""")
_decoder: Final = msgspec.msgpack.Decoder(list[GroupRow])


def _key(user_id: int) -> str:
    return f"notifications:{ids.encode(user_id)}"


def _generation(user_id: int) -> str:
    return f"notifications:generation:{ids.encode(user_id)}"


def ask(user_id: int) -> cache.Command:
    """The command for `take`."""
    return ("MGET", _key(user_id), _generation(user_id))


def take(reply: list[bytes | None]) -> tuple[list[GroupRow] | None, bytes]:
    """The groups in the reply, None for a miss, and the generation to fill it with."""
    return (None if reply[0] is None else _decoder.decode(reply[0])), reply[1] or b""


def fill(user_id: int, generation: bytes, groups: list[GroupRow]) -> cache.Command:
    """The command that fills what was a miss."""
    return _FILL.command(
        [_key(user_id), _generation(user_id)], [generation, msgspec.msgpack.encode(groups), TTL_SECONDS]
    )


def changed(user_id: int) -> list[cache.Command]:
    """The commands to run after a change was committed."""
    return [
        ("SET", _generation(user_id), str(ids.new_id()), "EX", _GENERATION_SECONDS),
        ("DEL", _key(user_id)),
    ]
