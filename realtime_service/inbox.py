"""Inboxes: what a user was sent while away, and whether it is all still there (shared/live/publish.py writes them)."""

import math
import time
from typing import Any, Final, NamedTuple

from realtime_service.frames import Event
from shared.kernel import cache, ids
from shared.live import publish
from shared.live.publish import BOOT_FLOOR, KEPT_SECONDS

# So many events are read at a time: what of them is hidden or changed is looked at just before they are sent.
PAGE: Final = 50

# Whether the inbox is whole since `after`, the next that is in it since then, and its last. KEYS: inbox, its floor, the
# floor of all, when something was last left out of it. {0, n}: it is not, and what is missed is of n or before.
_SINCE: Final = cache.Script("""
local after = tonumber(ARGV[1])
local time = redis.call('TIME')
local now, kept = time[1] * 1000000 + time[2], tonumber(ARGV[3]) * 1000000
local gap = {0, now - 1}
if after < tonumber(redis.call('GET', KEYS[4]) or '0') then return gap end
local floor = tonumber(redis.call('GET', KEYS[2]) or 'inf')
local known = redis.call('EXISTS', KEYS[3]) == 1
local boot = tonumber(redis.call('GET', KEYS[3]) or '0')
-- Who was linked, but for a moment, to this very Redis has missed only what is newer; the rest needn't be known.
local linked = ARGV[2] == '1'
if redis.call('EXISTS', KEYS[1]) == 0 then
  if linked and after >= boot then return {1, {}, after} end
  -- Had there been an event since, within what is kept, its inbox would be there.
  if known and after >= boot and after <= now and after > now - kept then return {1, {}, after} end
  return gap
end
local info = redis.call('XINFO', 'STREAM', KEYS[1])
local last, deleted, added, length, first = 0, 0, 0, 0, 0
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then last = tonumber(string.match(info[i + 1], '^%d+')) end
  if info[i] == 'entries-added' then added = info[i + 1] end
  if info[i] == 'length' then length = info[i + 1] end
  if info[i] == 'first-entry' and info[i + 1] then first = tonumber(string.match(info[i + 1][1], '^%d+')) end
  if info[i] == 'max-deleted-entry-id' then deleted = tonumber(string.match(info[i + 1], '^%d+')) end
end
-- What MAXLEN trims is no deletion to XINFO: then only from the first that is left on is it whole.
if added > length and after < first then return gap end
if after < boot or after < deleted then return gap end
if not linked then
  -- Nor was there one before this inbox began, if another would still have been kept then.
  if after < floor and not (known and after > floor - kept) then return gap end
  if after > last and not (known and after <= now) then return gap end
end
return {1, redis.call('XRANGE', KEYS[1], string.format('(%s-0', ARGV[1]), '+', 'COUNT', ARGV[4]), last}
""")
# A Redis with another run_id was restarted, and may have lost its tail: what was before can't be resumed.
_NOTE_BOOT: Final = cache.Script("""
local floor = redis.call('GET', KEYS[2])
if floor and redis.call('GET', KEYS[1]) == ARGV[1] then return floor end
local time = redis.call('TIME')
floor = string.format('%.0f', time[1] * 1000000 + time[2])
redis.call('SET', KEYS[2], floor)
redis.call('SET', KEYS[1], ARGV[1])
return floor
""")


class Gap(NamedTuple):
    """Some events may be missing, of up to this seq: what comes later has a greater one. The client reads anew."""

    upto: int


async def since(user_id: int, after: int, *, linked: bool = False) -> list[Event] | Gap:
    """The first `PAGE` events past `after`, in order, unless some may be missing, or say what is not so any more.

    `linked`: `after` is known to be of this Redis, though its inbox may have begun later.
    """
    user = ids.encode(user_id)
    command = _SINCE.command(
        [f"inbox:{user}", f"inbox:floor:{user}", BOOT_FLOOR, f"inbox:missed:{user}"],
        [str(after), int(linked), KEPT_SECONDS, PAGE],
    )
    (reply,) = await cache.run(command)
    if not reply[0]:
        return Gap(reply[1])
    _, entries, last = reply
    if await _are_outdated(user, entries):
        return Gap(last)
    return [_event(entry) for entry in entries]


async def _are_outdated(user: str, entries: list[Any]) -> bool:
    """Whether what one of them tells was hidden from the user since, or says something else by now, or is too old."""
    if not entries:
        return False
    good_until: float = math.inf
    rests: list[tuple[int, str, str]] = []
    for entry in entries:
        fields, seq = _fields(entry), _seq_of(entry)
        if b"g" not in fields:
            return True  # of an earlier release: nobody knows what it rests on
        good_until = min(good_until, seq + int(fields[b"g"]) * 1_000_000)
        for name, _, known in (one.partition("=") for one in fields[b"r"].decode().split()):
            rests += [(seq, known, name), (seq, known, f"{user}>{name}")]
    keys = {name: publish.changed_key(name) for _, _, name in rests}
    (seconds, micros), *marks = await cache.run(("TIME",), *([("MGET", *keys.values())] if keys else []))
    mark_of = dict(zip(keys, marks[0] if marks else (), strict=True))
    return int(seconds) * 1_000_000 + int(micros) > good_until or any(
        publish.is_outdated(seq, known, mark_of[name]) for seq, known, name in rests
    )


async def newer(user_id: int, after: int) -> list[Event]:
    """The first `PAGE` that are there past `after`, in order."""
    (entries,) = await cache.run(("XRANGE", f"inbox:{ids.encode(user_id)}", f"({after}-0", "+", "COUNT", PAGE))
    return [_event(entry) for entry in entries]


async def instant(at: float) -> int:
    """The moment `at`, of `time.monotonic`, on Redis's clock, which seq counts in; not later. In µs."""
    ((seconds, micros),) = await cache.run(("TIME",))
    return int(seconds) * 1_000_000 + int(micros) - math.ceil((time.monotonic() - at) * 1_000_000)


async def note_boot() -> int:
    """Tell Redis's run apart from the one before, or that it was emptied; the seq from where on it is whole."""
    (info,) = await cache.run(("INFO", "server"))
    run_id = next(line[7:] for line in info.decode().splitlines() if line.startswith("run_id:"))
    (floor,) = await cache.run(_NOTE_BOOT.command(["live:boot", BOOT_FLOOR], [run_id]))
    return int(floor)


def _event(entry: Any) -> Event:
    return Event(_fields(entry)[b"e"], _seq_of(entry))


def _fields(entry: Any) -> dict[bytes, bytes]:
    return dict(zip(entry[1][::2], entry[1][1::2], strict=True))


def _seq_of(entry: Any) -> int:
    return int(entry[0].partition(b"-")[0])
