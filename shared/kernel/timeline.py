"""Timelines: the newest entries of a list in Redis, ordered by the id they begin with.

A sorted set whose members all have score 0, so that it is ordered by its members: 13 characters of id, then whatever
the list needs to know of an entry. "~" sorts behind every id, and marks a set that is complete down to its oldest
entry. While one is built from Postgres, `building` is set *before* Postgres is read, and additions are taken
meanwhile: what was committed before is read, what is committed after is added. What takes entries out, or drops the
whole timeline, ends what is being built: it may have read what is gone by now, and so completes nothing.

"!" sorts before every id, and marks a set that is all of the list: it is the first to go when the oldest are trimmed.
What is older than all that a set has is not put into one without it: what is in between may be missing.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from shared.kernel import cache, ids
from shared.kernel.projection import VERSION_DIGITS

TTL_SECONDS: Final = 7 * 24 * 3600
_BUILDING_SECONDS: Final = 60
_COMPLETE: Final = "~"
WHOLE: Final = "!"
# How long a drop, or what was taken back, is remembered: longer than its event is tried again for.
_DROP_SECONDS: Final = 24 * 3600
# How long it is remembered which version was placed: longer than anything that read an older one is under way.
_PLACED_SECONDS: Final = 3600

# KEYS: timelines and their building marks, in turn; then perhaps a mark that these entries were taken back for good.
# ARGV: ttl, how many to keep, members. Only what is complete or being built takes additions: a timeline that nobody
# reads costs nothing. A fill trims what was added meanwhile and is older than all that it brings.
_ADD: Final = cache.Script("""
if #KEYS % 2 == 1 and redis.call('EXISTS', KEYS[#KEYS]) == 1 then return end
for k = 1, #KEYS - 1, 2 do
  local complete = redis.call('ZSCORE', KEYS[k], '~')
  if complete or redis.call('EXISTS', KEYS[k + 1]) == 1 then
    local oldest = redis.call('ZRANGE', KEYS[k], 0, 0)[1]
    for i = 3, #ARGV do
      if not complete or oldest == '!' or ARGV[i] > oldest then redis.call('ZADD', KEYS[k], 0, ARGV[i]) end
    end
    redis.call('ZREMRANGEBYRANK', KEYS[k], 0, -(ARGV[2] + 2))
    if redis.call('TTL', KEYS[k]) < 0 then redis.call('EXPIRE', KEYS[k], ARGV[1]) end
  end
end
""")
# KEYS: as of _ADD. ARGV: how many are kept, members. One that has shrunk to half goes, to be built again, unless it is
# all of the list: what is older comes from Postgres meanwhile.
_REMOVE: Final = cache.Script("""
for k = 1, #KEYS, 2 do
  local gone = redis.call('ZREM', KEYS[k], unpack(ARGV, 2))
  redis.call('DEL', KEYS[k + 1])
  if gone > 0 and redis.call('ZCARD', KEYS[k]) <= ARGV[1] / 2 and redis.call('ZRANGE', KEYS[k], 0, 0)[1] ~= '!' then
    redis.call('DEL', KEYS[k])
  end
end
""")
# KEYS: the timeline, its building mark. ARGV: a fresh mark, its ttl. Who comes while one is being built joins in: the
# mark has stood since before they read Postgres, which is all it says. Gives the mark.
_BEGIN: Final = cache.Script("""
local mark = redis.call('GET', KEYS[2])
if not mark then
  mark = ARGV[1]
  if not redis.call('ZSCORE', KEYS[1], '~') then redis.call('DEL', KEYS[1]) end
end
redis.call('SET', KEYS[2], mark, 'EX', ARGV[2])
return mark
""")
# KEYS: the timeline, its building mark. ARGV: the mark, how many to keep, ttl, then score and member in turn.
_FILL: Final = cache.Script("""
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('ZADD', KEYS[1], unpack(ARGV, 4))
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -(ARGV[2] + 2))
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('DEL', KEYS[2])
return 1
""")
# KEYS: the timeline, its building mark, the version it was last dropped for. ARGV: a version, how long to remember it.
_DROP: Final = cache.Script("""
if (redis.call('GET', KEYS[3]) or '') >= ARGV[1] then return 0 end
redis.call('SET', KEYS[3], ARGV[1], 'EX', ARGV[2])
redis.call('DEL', KEYS[1], KEYS[2])
return 1
""")
# KEYS: the version placed last, then timelines and their building marks, in turn. ARGV: a version, how long to remember
# it, ttl, then for each timeline how many to keep, the end of the members that are one's own, and the one to be there,
# or ''. A first version finds nothing of its own; any other looks through what is kept. What is older than all that a
# set has is not put in, unless the set is whole: there may be a gap between. One that has shrunk to half goes, to be
# built again.
_PLACE: Final = cache.Script("""
if (redis.call('GET', KEYS[1]) or '') > ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
local again = ARGV[1] > '0000000000000001'
for k = 2, #KEYS, 2 do
  local list, a = KEYS[k], 3 * k / 2 + 1
  local keep, ending, entry = tonumber(ARGV[a]), ARGV[a + 1], ARGV[a + 2]
  local complete = redis.call('ZSCORE', list, '~')
  if complete or redis.call('EXISTS', KEYS[k + 1]) == 1 then
    if again then
      for _, member in ipairs(redis.call('ZRANGE', list, 0, -1)) do
        if member ~= entry and string.sub(member, -#ending) == ending then redis.call('ZREM', list, member) end
      end
      redis.call('DEL', KEYS[k + 1])
    end
    local oldest = redis.call('ZRANGE', list, 0, 0)[1]
    if complete and oldest ~= '!' and redis.call('ZCARD', list) <= keep / 2 then
      redis.call('DEL', list)
    elseif entry ~= '' and (not complete or oldest == '!' or entry > oldest) then
      redis.call('ZADD', list, 0, entry)
      redis.call('ZREMRANGEBYRANK', list, 0, -(keep + 2))
      if redis.call('TTL', list) < 0 then redis.call('EXPIRE', list, ARGV[3]) end
    end
  end
end
return 1
""")


class Slice(msgspec.Struct, frozen=True):
    """Entries of a timeline, newest first.

    `complete`: Redis has the timeline; `exhausted`: it has no older entry; `ended`: nor has the list itself.
    """

    entries: list[str]
    complete: bool
    exhausted: bool
    ended: bool


class Timeline:
    """A kind of timeline, one for each owner, that keeps the newest `keep` entries."""

    def __init__(self, name: str, *, keep: int):
        self.name = name
        self.keep = keep

    def key(self, owner: int) -> str:
        """The owner's set."""
        return f"{self.name}:{ids.encode(owner)}"

    def _taken_back(self, act: int) -> str:
        return f"{self.name}:undone:{ids.encode(act)}"

    def _building(self, owner: int) -> str:
        return f"{self.name}:building:{ids.encode(owner)}"

    def ask(self, owner: int, before: int | None, count: int) -> list[cache.Command]:
        """The two commands for `take`: up to `count` entries older than the id `before`."""
        newest = f"({_COMPLETE}" if before is None else f"({ids.encode(before)}"
        return [
            ("ZSCORE", self.key(owner), _COMPLETE),
            ("ZRANGE", self.key(owner), newest, "-", "BYLEX", "REV", "LIMIT", 0, count),
        ]

    def take(self, replies: list[Any], count: int) -> Slice:
        """The entries in the replies to `ask`."""
        entries = [member.decode() for member in replies[1]]
        ended = bool(entries) and entries[-1] == WHOLE
        if ended:
            entries.pop()
        return Slice(entries, replies[0] is not None, len(entries) < count, ended)

    def add(self, owner: int, members: list[str]) -> cache.Command:
        """The command that adds entries, if the timeline is there."""
        return self.add_to_all([owner], members)

    def add_to_all(self, owners: list[int], members: list[str], *, act: int | None = None) -> cache.Command:
        """The command that adds the same entries to the timelines of many; not if their `act` was taken back."""
        marks = [] if act is None else [self._taken_back(act)]
        return _ADD.command([*self.keys(owners), *marks], [TTL_SECONDS, self.keep, *members])

    def take_back(self, owners: list[int], members: list[str], act: int) -> list[cache.Command]:
        """The commands that take the entries of an act out, for good: who adds them late adds nothing."""
        return [("SET", self._taken_back(act), "1", "EX", _DROP_SECONDS), self.remove_from_all(owners, members)]

    def remove(self, owner: int, members: list[str]) -> cache.Command:
        """The command that takes entries out."""
        return self.remove_from_all([owner], members)

    def remove_from_all(self, owners: list[int], members: list[str]) -> cache.Command:
        """The command that takes the same entries out of the timelines of many."""
        return _REMOVE.command(self.keys(owners), [self.keep, *members])

    def drop(self, owner: int, cause: int, version: int) -> cache.Command:
        """The command that drops a timeline which a change of `cause` made wrong, once a version of it."""
        dropped = f"{self.name}:dropped:{ids.encode(owner)}{ids.encode(cause)}"
        return _DROP.command([*self.keys([owner]), dropped], [f"{version:0{VERSION_DIGITS}d}", _DROP_SECONDS])

    def forget(self, owner: int) -> cache.Command:
        """The command that drops a timeline whatever it holds; the next read builds it."""
        return ("DEL", *self.keys([owner]))

    def begin_building(self, owner: int) -> cache.Command:
        """The command to run before Postgres is read for `fill`; its reply is the mark to fill under."""
        return _BEGIN.command(self.keys([owner]), [ids.encode(ids.new_id()), _BUILDING_SECONDS])

    def fill(self, owner: int, mark: bytes, members: list[str]) -> cache.Command:
        """The command that completes the timeline with what was read, unless something was taken out meanwhile.

        `members` are the newest `keep`, or all there are.
        """
        marks = [_COMPLETE, WHOLE] if len(members) < self.keep else [_COMPLETE]
        pairs = [piece for member in [*members, *marks] for piece in (0, member)]
        return _FILL.command(self.keys([owner]), [mark, self.keep, TTL_SECONDS, *pairs])

    def keys(self, owners: list[int]) -> list[str]:
        """The owners' sets, each with its building mark."""
        return [key for owner in owners for key in (self.key(owner), self._building(owner))]


class Place(msgspec.Struct, frozen=True):
    """The one entry that `whose` is to have in an owner's timeline, or none. Entries of `whose` end in their id."""

    timeline: Timeline
    owner: int
    whose: int
    entry: str | None


def place(cause: str, version: int, places: Sequence[Place]) -> cache.Command:
    """The command that puts entries in their places, or takes them out, unless a newer version of `cause` did so.

    So it ends the same in any order, and what entry it was that is there no more need not be known.
    """
    keys = [f"placed:{cause}"]
    arguments: list[str | bytes | int] = [f"{version:0{VERSION_DIGITS}d}", _PLACED_SECONDS, TTL_SECONDS]
    for one in places:
        keys += one.timeline.keys([one.owner])
        arguments += [one.timeline.keep, ids.encode(one.whose), one.entry or ""]
    return _PLACE.command(keys, arguments)
