"""Timelines: the newest entries of a list in Redis, ordered by the id they begin with.

A sorted set whose members all have score 0, so that it is ordered by its members: 13 characters of id, then whatever
the list needs to know of an entry. "~" sorts behind every id, and marks a set that is complete down to its oldest
entry. While one is built from Postgres, `building` is set *before* Postgres is read, and additions are taken
meanwhile: what was committed before is read, what is committed after is added.
"""

from typing import Any, Final

import msgspec

from shared.kernel import cache, ids

TTL_SECONDS: Final = 7 * 24 * 3600
_BUILDING_SECONDS: Final = 60
_COMPLETE: Final = "~"

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
        keys = [key for owner in owners for key in (self.key(owner), self._building(owner))]
        return _ADD.command(keys, [TTL_SECONDS, self.keep, *members])

    def remove(self, owner: int, members: list[str]) -> cache.Command:
        """The command that takes entries out."""
        return ("ZREM", self.key(owner), *members)

    def begin_building(self, owner: int) -> cache.Command:
        """The command to run before Postgres is read for `fill`."""
        return ("SET", self._building(owner), "1", "EX", _BUILDING_SECONDS)

    def fill(self, owner: int, members: list[str]) -> list[cache.Command]:
        """The commands that complete the timeline with what was read."""
        pairs = [piece for member in [*members, _COMPLETE] for piece in (0, member)]
        return [
            ("ZADD", self.key(owner), *pairs),
            ("ZREMRANGEBYRANK", self.key(owner), 0, -(self.keep + 2)),
            ("EXPIRE", self.key(owner), TTL_SECONDS),
        ]

    def keep_warm(self, owner: int) -> cache.Command:
        """The command that puts off the end of a timeline that is read."""
        return ("EXPIRE", self.key(owner), TTL_SECONDS)
