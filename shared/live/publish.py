"""Sending live events: into each user's inbox and out on their channel, in one round trip however many.

An inbox `inbox:{user}` is a stream whose ids are the user's `seq`: the clock in microseconds, or one more than the
last, so that it grows even when Redis was lost. `inbox:floor:{user}` says from where on it is whole.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from shared.kernel import cache, clock, ids

KEPT_SECONDS: Final = 24 * 3600
KEPT_EVENTS: Final = 1000

# KEYS: the mark of what was sent already (may be ""), then inbox, floor, in turn.
# ARGV: now in ms, seconds kept, events kept, then channel, the event up to its seq, the rest after it, in turn.
_DELIVER: Final = cache.Script("""
if KEYS[1] ~= '' and not redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[2]) then return 0 end
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
for i = 2, #KEYS, 2 do
  local a = 4 + (i - 2) / 2 * 3
  local last = redis.call('XREVRANGE', KEYS[i], '+', '-', 'COUNT', 1)
  local seq = micros
  if last[1] then
    local previous = tonumber(string.match(last[1][1], '^%d+'))
    if previous >= seq then seq = previous + 1 end
  else
    redis.call('SET', KEYS[i + 1], string.format('%.0f', seq - 1), 'EX', ARGV[2] + 3600)
  end
  local text = string.format('%.0f', seq)
  local event = ARGV[a + 1] .. text .. ARGV[a + 2]
  redis.call('XADD', KEYS[i], 'MAXLEN', '~', ARGV[3], text .. '-0', 'e', event)
  redis.call('EXPIRE', KEYS[i], ARGV[2])
  redis.call('EXPIRE', KEYS[i + 1], ARGV[2] + 3600)
  redis.call('PUBLISH', ARGV[a], event)
end
return 1
""")


def deliver(deliveries: Sequence[tuple[int, str, bytes]], *, once: str = "") -> None:
    """Send events, as (user, event, data as JSON). Raises CacheUnavailable.

    With `once`, the same mark sends nothing a second time: a background function that runs again is not heard twice.
    """
    if not deliveries:
        return
    now = clock.now_ms()
    keys: list[str] = [f"sent:{once}" if once else ""]
    args: list[str | bytes | int] = [now, KEPT_SECONDS, KEPT_EVENTS]
    for user_id, event, data in deliveries:
        user = ids.encode(user_id)
        keys += (f"inbox:{user}", f"inbox:floor:{user}")
        args += (
            channel(user_id),
            f'{{"event":"{event}","seq":',
            b',"at":%d,"data":%b}' % (now, data),
        )
    cache.run_sync(_DELIVER.command(keys, args))


def session_ended(user_id: int, session_id: int) -> cache.Command:
    """The command that tells a session's sockets of its end; they close."""
    event = {"event": "session.ended", "at": clock.now_ms(), "data": {"session_id": ids.encode(session_id)}}
    return ("PUBLISH", channel(user_id), msgspec.json.encode(event))


def channel(user_id: int) -> str:
    """The channel of a user's events."""
    return f"live:u:{ids.encode(user_id)}"
