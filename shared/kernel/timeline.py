"""Timelines: the newest entries of a list in Redis, ordered by the id they begin with.

A sorted set whose members all have score 0, so that it is ordered by its members: 13 characters of id, then whatever
the list needs to know of an entry. "~" sorts behind every id, and marks a set that is complete down to its oldest
entry. While one is built from Postgres, `building` is set *before* Postgres is read, and additions are taken
meanwhile: what was committed before is read, what is committed after is added. What takes entries out, or drops the
whole timeline, ends what is being built: it may have read what is gone by now, and so completes nothing.
"""

from typing import Any, Final

import msgspec

from shared.kernel import cache, ids
from shared.kernel.projection import VERSION_DIGITS

TTL_SECONDS: Final = 7 * 24 * 3600
_BUILDING_SECONDS: Final = 60
_COMPLETE: Final = "~"
# How long a drop is remembered: longer than its event is tried again for.
_DROP_SECONDS: Final = 24 * 3600

# KEYS: timelines and their building marks, in turn. ARGV: ttl, how many to keep, members. Only what is complete or
# being built takes additions: a timeline that nobody reads costs nothing.
_ADD: Final = cache.Script("""
for k = 1, #KEYS, 2 do
  if redis.call('ZSCORE', KEYS[k], '~') or redis.call('EXISTS', KEYS[k + 1]) == 1 then
    for i = 3, #ARGV do redis.call('ZADD', KEYS[k], 0, ARGV[i]) end
    redis.call('ZREMRANGEBYRANK', KEYS[k], 0, -(ARGV[2] + 2))
    if redis.call('TTL', KEYS[k]) < 0 then redis.call('EXPIRE', KEYS[k], ARGV[1]) end
  end
end
""")
# KEYS: as of _ADD. ARGV: members.
_REMOVE: Final = cache.Script("""
for k = 1, #KEYS, 2 do
  redis.call('ZREM', KEYS[k], unpack(ARGV))
  redis.call('DEL', KEYS[k + 1])
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


class Slice(msgspec.Struct, frozen=True):
    """Entries of a timeline, newest first. `complete`: Redis has the timeline; `exhausted`: it has no older entry."""

    entries: list[str]
    complete: bool
    exhausted: bool


class Timeline:
    """A kind of timeline, one for each owner, that keeps the newest `keep` entries."""

    def __init__(self, name: str, *, keep: int):
        self.name = name
        self.keep = keep

    def key(self, owner: int) -> str:
        """The owner's set."""
        return f"{self.name}:{ids.encode(owner)}"

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
        return Slice(entries, replies[0] is not None, len(entries) < count)

    def add(self, owner: int, members: list[str]) -> cache.Command:
        """The command that adds entries, if the timeline is there."""
        return self.add_to_all([owner], members)

    def add_to_all(self, owners: list[int], members: list[str]) -> cache.Command:
        """The command that adds the same entries to the timelines of many."""
        return _ADD.command(self._keys(owners), [TTL_SECONDS, self.keep, *members])

    def remove(self, owner: int, members: list[str]) -> cache.Command:
        """The command that takes entries out."""
        return self.remove_from_all([owner], members)

    def remove_from_all(self, owners: list[int], members: list[str]) -> cache.Command:
        """The command that takes the same entries out of the timelines of many."""
        return _REMOVE.command(self._keys(owners), members)

    def drop(self, owner: int, cause: int, version: int) -> cache.Command:
        """The command that drops a timeline which a change of `cause` made wrong, once a version of it."""
        dropped = f"{self.name}:dropped:{ids.encode(owner)}{ids.encode(cause)}"
        return _DROP.command([*self._keys([owner]), dropped], [f"{version:0{VERSION_DIGITS}d}", _DROP_SECONDS])

    def forget(self, owner: int) -> cache.Command:
        """The command that drops a timeline whatever it holds; the next read builds it."""
        return ("DEL", *self._keys([owner]))

    def begin_building(self, owner: int) -> cache.Command:
        """The command to run before Postgres is read for `fill`; its reply is the mark to fill under."""
        return _BEGIN.command(self._keys([owner]), [ids.encode(ids.new_id()), _BUILDING_SECONDS])

    def fill(self, owner: int, mark: bytes, members: list[str]) -> cache.Command:
        """The command that completes the timeline with what was read, unless something was taken out meanwhile."""
        pairs = [piece for member in [*members, _COMPLETE] for piece in (0, member)]
        return _FILL.command(self._keys([owner]), [mark, self.keep, TTL_SECONDS, *pairs])

    def _keys(self, owners: list[int]) -> list[str]:
        return [key for owner in owners for key in (self.key(owner), self._building(owner))]
