"""Sending live events: into each user's inbox and out on their channel, in one round trip however many.

An inbox `inbox:{user}` is a stream whose ids are the user's `seq`: the clock in microseconds, or one more than the
last, so that it grows even when Redis was lost. `inbox:floor:{user}` says from where on it is whole, and
`inbox:missed:{user}` when something was last not put into it. An entry has the ids that its event rests on, each with
the change that it tells of already, if any, and for how many seconds it is good.

`live:changed:{id}`, and for one viewer `live:changed:{viewer}>{id}`, has by which change what rests on an id was last
hidden or changed, and when; `live:changed` when any was: nobody is told what was read before, now or as they resume.
`presence:{user}` has until when they are here, for each instance of the live service (shared/presence).
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

import msgspec

from shared.kernel import cache, clock, events, ids
from shared.live import redis_clock

KEPT_SECONDS: Final = 24 * 3600
KEPT_EVENTS: Final = 1000
# Channels: of topics by their names, and of what may hide them.
TOPIC: Final = "live:t:"
GATE: Final = "live:gate"
# When anything was last hidden or changed, in µs.
CHANGED: Final = "live:changed"
# From where on anything can be resumed: when Redis was last found to have been restarted, in µs.
BOOT_FLOOR: Final = "live:floor"


# Which change of a post, a message, or of how one stands to another: a time, a version, whatever no other change has.
Change = int | str
# The ids that an event rests on, each with the change of it that the event tells of already.
Rests = Mapping[int, Change | None]
NOTHING: Final[Rests] = MappingProxyType({})


class Hidden(NamedTuple):
    """What may have been hidden: what rests on an id, from the viewer, or from all and from that user themselves."""

    subject: int
    viewer: int | None


# KEYS: the mark, which has what version each user has heard, and the mark of what comes before (either may be empty),
# when anything was last changed, then inbox and floor of each user, in turn. ARGV: seconds kept, events kept, the
# version, the event up to its seq (empty: nothing is sent), the rest after it, the ids that it rests on (`id` or
# `id=change`), for how many seconds it is good, since when it was read, in µs, the rest of what has a user read anew
# instead, as something has changed since, then each user's channel. Gives whether it was done, and the time in µs.
_DELIVER: Final = cache.Script("""
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
if KEYS[2] ~= '' and redis.call('EXISTS', KEYS[2]) == 0 then return {0, micros} end
local function is_news(user)
  if KEYS[1] == '' then return true end
  if tonumber(redis.call('HGET', KEYS[1], user) or '0') >= tonumber(ARGV[3]) then return false end
  redis.call('HSET', KEYS[1], user, ARGV[3])
  return true
end
local latest = redis.call('GET', KEYS[3])
local function has_changed(key, known)
  local change, at = string.match(redis.call('GET', key) or '', '^(%S+) (%d+)$')
  return at and tonumber(at) >= tonumber(ARGV[8]) and change ~= known
end
local function is_outdated(user)
  if not latest or tonumber(latest) < tonumber(ARGV[8]) then return false end
  for id, known in string.gmatch(ARGV[6], '([^ =]+)=?([^ ]*)') do
    local key = KEYS[3] .. ':'
    if has_changed(key .. id, known) or has_changed(key .. user .. '>' .. id, known) then return true end
  end
  return false
end
local function send(i, user)
  local last = redis.call('XREVRANGE', KEYS[i], '+', '-', 'COUNT', 1)
  local seq = micros
  if last[1] then
    local previous = tonumber(string.match(last[1][1], '^%d+'))
    if previous >= seq then seq = previous + 1 end
  else
    redis.call('SET', KEYS[i + 1], string.format('%.0f', seq - 1), 'EX', ARGV[1] + 3600)
  end
  local text = string.format('%.0f', seq)
  local event, rests = ARGV[4] .. text .. ARGV[5], ARGV[6]
  if is_outdated(user) then event, rests = '{"event":"resync","seq":' .. text .. ARGV[9], '' end
  redis.call('XADD', KEYS[i], 'MAXLEN', '~', ARGV[2], text .. '-0', 'e', event, 'r', rests, 'g', ARGV[7])
  redis.call('EXPIRE', KEYS[i], ARGV[1])
  redis.call('EXPIRE', KEYS[i + 1], ARGV[1] + 3600)
  redis.call('PUBLISH', ARGV[8 + i / 2], event)
end
for i = 4, #KEYS, 2 do
  local user = string.sub(KEYS[i], -13)
  if is_news(user) and ARGV[4] ~= '' then send(i, user) end
end
if KEYS[1] ~= '' then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
return {1, micros}
""")

# KEYS: the presence and the mark of what was missed, of each user in turn. ARGV: now, in ms; seconds kept.
_PRESENT: Final = cache.Script("""
local time = redis.call('TIME')
local micros = string.format('%.0f', time[1] * 1000000 + time[2])
local here = {}
for i = 1, #KEYS, 2 do
  local latest = redis.call('ZRANGE', KEYS[i], -1, -1, 'WITHSCORES')[2]
  if latest and tonumber(latest) > tonumber(ARGV[1]) then
    here[#here + 1] = (i - 1) / 2
  elseif latest and tonumber(latest) > ARGV[1] - ARGV[2] * 1000 then
    redis.call('SET', KEYS[i + 1], micros, 'EX', ARGV[2])
  end
end
return here
""")

# KEYS: the mark of what has changed, and that of all. ARGV: seconds kept, and by which change: when the same is told
# again, what was read between has it, and stays.
_CHANGED: Final = cache.Script("""
if string.match(redis.call('GET', KEYS[1]) or '', '^%S+') == ARGV[2] then return end
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
redis.call('SET', KEYS[1], ARGV[2] .. ' ' .. now, 'EX', ARGV[1])
redis.call('SET', KEYS[2], now, 'EX', ARGV[1])
""")


def present(user_ids: Sequence[int]) -> list[int]:
    """Those who are here, for events that the others' inboxes are spared. Raises CacheUnavailable.

    Who was here within the day has missed something from now on, and can resume from nothing before.
    """
    users = [ids.encode(user_id) for user_id in user_ids]
    keys = [key for user in users for key in (f"presence:{user}", f"inbox:missed:{user}")]
    (here,) = cache.run_sync(_PRESENT.command(keys, [clock.now_ms(), KEPT_SECONDS]))
    return [user_ids[index] for index in here]


def deliver(
    user_ids: Sequence[int],
    event: str,
    data: bytes | None,
    *,
    once: str = "",
    version: int = 1,
    after: str = "",
    rests: Rests = NOTHING,
    good_for: int = KEPT_SECONDS,
) -> bool:
    """Send one event, `data` in JSON, to each user. Raises CacheUnavailable.

    Who comes back is sent it as well, within `good_for` seconds. Where something that it `rests` on has `changed`, for
    all or for one of them, since the background function that sends it began to read, they are told to read anew
    instead, now or when they come back.

    With `once`, the same mark sends a user nothing a second time: a background function that runs again is not heard
    twice. Where what the mark stands for changes, only a newer `version` of it is sent; of `data` that is None nothing
    is, and never will be. With `after`, the mark of another event, nothing is done before that was; whether it was.
    """
    if not user_ids:
        return True
    users = [ids.encode(user_id) for user_id in user_ids]
    keys = [*[f"heard:{mark}" if mark else "" for mark in (once, after)], CHANGED]
    keys += [key for user in users for key in (f"inbox:{user}", f"inbox:floor:{user}")]
    head = "" if data is None else f'{{"event":"{event}","seq":'
    tail = b',"at":%d,"data":%b}' % (clock.now_ms(), data or b"")
    on = " ".join(ids.encode(one) if change is None else f"{ids.encode(one)}={change}" for one, change in rests.items())
    anew = b',"at":%d,"data":{}}' % clock.now_ms()
    kept = (KEPT_SECONDS, KEPT_EVENTS, version, head, tail, on, good_for, redis_clock.at(events.begun()), anew)
    channels = [channel(user_id) for user_id in user_ids]
    ((done, now),) = cache.run_sync(_DELIVER.command(keys, [*kept, *channels]))
    redis_clock.read(now)
    return bool(done)


def whole_since() -> int:
    """From when on no mark was lost with Redis, in ms: from now on, if nobody knows yet. Raises CacheUnavailable."""
    (floor,) = cache.run_sync(("GET", BOOT_FLOOR))
    return int(floor) // 1000 if floor else clock.now_ms()


def session_ended(user_id: int, session_id: int) -> cache.Command:
    """The command that tells a session's sockets of its end; they close."""
    event = {"event": "session.ended", "at": clock.now_ms(), "data": {"session_id": ids.encode(session_id)}}
    return ("PUBLISH", channel(user_id), msgspec.json.encode(event))


def metrics(kind: Literal["post", "comment"], subject: int, version: int, counts: Any, reactions: Any) -> cache.Command:
    """The command that tells who subscribes to a post or comment how it is counted, by this version of it."""
    name = ids.encode(subject)
    state = msgspec.json.encode({"id": name, "counts": counts, "reactions": reactions})
    return ("PUBLISH", f"{TOPIC}{kind}:{name}", b"%d %b" % (version, state))


def look_again(subject: int, viewer_id: int | None = None) -> cache.Command:
    """The command that has a viewer's subscriptions to what rests on `subject` looked at anew.

    Without a viewer those of all to it, and all of `subject`'s own.
    """
    return ("PUBLISH", GATE, _name(subject, viewer_id))


def changed(subject: int, change: Change, viewer_id: int | None = None) -> cache.Command:
    """The command after which nobody, or not this viewer, is told any more what was read of `subject` before `change`.

    It has hidden it, or it says something else now. Any name says which change it is: the next one has another.
    """
    return _CHANGED.command([changed_key(_name(subject, viewer_id)), CHANGED], [KEPT_SECONDS + 3600, change])


def _name(subject: int, viewer_id: int | None) -> str:
    return ids.encode(subject) if viewer_id is None else f"{ids.encode(viewer_id)}>{ids.encode(subject)}"


def changed_key(name: str) -> str:
    """The key of a mark: of an id, or of one for a viewer (`viewer>id`)."""
    return f"{CHANGED}:{name}"


def is_outdated(seq: int, known: str, mark: bytes | None) -> bool:
    """Whether what rests on an id was hidden or changed, by its mark, after it was told, unless that was `known`."""
    change, _, at = (mark or b"").rpartition(b" ")
    return bool(at) and int(at) >= seq and change.decode() != known


def hidden_in(payload: bytes) -> Hidden:
    """What `look_again` told."""
    viewer, _, subject = payload.decode().rpartition(">")
    return Hidden(ids.decode(subject), ids.decode(viewer) if viewer else None)


def channel(user_id: int) -> str:
    """The channel of a user's events."""
    return f"live:u:{ids.encode(user_id)}"
