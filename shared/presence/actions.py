"""Saying that users are here, and that they type."""

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from shared.kernel import cache, clock, ids
from shared.kernel.endpoint import Caller, Username
from shared.kernel.problems import Invalid
from shared.live.publish import TOPIC, channel
from shared.presence.model import Typed
from shared.presence.reads import away_ms, key
from shared.profiles import reads as profiles

# How long it is known when a user was last here.
_KEPT_SECONDS: Final = 30 * 24 * 3600
# Who types says so again and again: they are heard once in so long, and count as typing twice as long.
TYPING_APART_MS: Final = 3000
TYPING_MS: Final = 6000

# KEYS: where users' presence is kept. ARGV: now, until when they are here, the instance, seconds kept, then the channel
# of each: told when nobody said that they were here before.
_HERE: Final = cache.Script("""
for i = 1, #KEYS do
  local latest = redis.call('ZRANGE', KEYS[i], -1, -1, 'WITHSCORES')[2]
  redis.call('ZADD', KEYS[i], ARGV[2], ARGV[3])
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', ARGV[1])
  redis.call('EXPIRE', KEYS[i], ARGV[4])
  if not latest or tonumber(latest) <= tonumber(ARGV[1]) then redis.call('PUBLISH', ARGV[4 + i], ARGV[2]) end
end
""")
# KEYS: that it was told just now, and that it counts still, of one who types to another. ARGV: '1' or '0', for how long
# each, the channel, the event.
_TYPE: Final = cache.Script("""
local told = false
if ARGV[1] == '1' then
  told = redis.call('SET', KEYS[1], '1', 'NX', 'PX', ARGV[2])
  if told then redis.call('SET', KEYS[2], '1', 'PX', ARGV[3]) end
else
  told = redis.call('DEL', KEYS[2]) == 1
end
if told then redis.call('PUBLISH', ARGV[4], ARGV[5]) end
""")


def here(user_ids: Sequence[int], instance_id: str) -> cache.Command:
    """The command that says that users are here, or were until just now, by an instance; said again before it lapses.

    Who hears of a user's presence is told when they come.
    """
    now = clock.now_ms()
    channels = [f"{TOPIC}presence:{ids.encode(user_id)}" for user_id in user_ids]
    arguments = [now, now + away_ms(), instance_id, _KEPT_SECONDS, *channels]
    return _HERE.command([key(user_id) for user_id in user_ids], arguments)


async def tell_typing(caller: Caller, to: Username, *, on: bool) -> None:
    """Tell `to` that the caller types, or no more; not where one of the two may not see that the other is here.

    Raises NotFound, Invalid for oneself; which of those who may be seen are told is nobody's to learn.
    """
    other = await profiles.resolve(to)
    if other == caller.user_id:
        raise Invalid.field("to", "yourself", "You can't chat with yourself.")
    theirs, own = await asyncio.gather(
        profiles.profile_of(caller, other), profiles.profile_of(Caller(other, 0), caller.user_id)
    )
    if theirs.presence is msgspec.UNSET or own.presence is msgspec.UNSET:
        return
    pair = ids.encode(caller.user_id) + ids.encode(other)
    await cache.run(
        _TYPE.command(
            [f"typing:told:{pair}", f"typing:{pair}"],
            [int(on), TYPING_APART_MS, TYPING_MS, channel(other), typing(own.user.username, on=on)],
        )
    )


def typing(sender: str, *, on: bool) -> bytes:
    """The event that somebody types, or no more; it is kept for nobody."""
    data = msgspec.json.encode(Typed(sender, on))
    return b'{"event":"typing","at":%d,"data":%b}' % (clock.now_ms(), data)
