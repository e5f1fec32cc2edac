"""Recent: the newest entries of a list in Redis as one value, which a change takes away and the next read fills.

For lists whose entries change in themselves, or are taken out as often as they come; a timeline is for those that grow.
A fill that read before a change and comes after it would bring back the old: so a change leaves a mark in the place of
the value, each time another, and a fill takes the place only of what it found there.
"""

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import msgspec

from shared.kernel import cache, ids, running, single_flight
from shared.kernel.pages import Positioned

TTL_SECONDS: Final = 3600
# What a mark begins with; no value does.
MARK: Final = b"changed:"

# ARGV: what was found in the place of the value, the value, its ttl.
_FILL: Final = cache.Script("""
if (redis.call('GET', KEYS[1]) or '') == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3]) end
""")


E = TypeVar("E", bound=Positioned)
# Whose a list is: a user's, a post's; or what the first of two has of the second.
Owner = int | tuple[int, int]
# Up to so many entries older than an id, newest first, of Postgres.
Load = Callable[[int, int], list[E]]


class Recent(Generic[E]):
    """A kind of list, one for each owner, of which the newest `keep` entries are kept."""

    def __init__(self, name: str, entry: type[E], *, keep: int):
        self.name = name
        self.keep = keep
        self._decoder: msgspec.msgpack.Decoder[list[E]] = msgspec.msgpack.Decoder(list[entry])

    def ask(self, owner: Owner) -> cache.Command:
        """The command for `take`."""
        return ("MGET", self.key(owner))

    async def take(
        self,
        owner: Owner,
        reply: Any,
        before: int | None,
        count: int,
        load: Load[E],
        *,
        chosen: Callable[[E], bool] | None = None,
        load_chosen: Load[E] | None = None,
    ) -> list[E]:
        """Up to `count` entries older than `before`, of the reply to `ask`; of Postgres if that is None, or too short.

        With `chosen`, of those alone, which `load_chosen` loads.
        """
        if reply is not None:
            entries = await self._newest(owner, reply, load)
            older = [
                entry
                for entry in entries
                if (before is None or entry.position < before) and (chosen is None or chosen(entry))
            ]
            if len(older) >= count or len(entries) < self.keep:
                return older[:count]
        return await running.on_loop(load_chosen or load, ids.MAX if before is None else before, count)

    def changed(self, owner: Owner) -> cache.Command:
        """The command to run after a change was committed."""
        return ("SET", self.key(owner), MARK + str(ids.new_id()).encode(), "EX", TTL_SECONDS)

    def decoded(self, value: bytes | None) -> list[E] | None:
        """What Redis holds as `value`; None for a miss: a mark is one, and what was kept in an older form."""
        try:
            return None if value is None or value.startswith(MARK) else self._decoder.decode(value)
        except msgspec.DecodeError:
            return None

    async def _newest(self, owner: Owner, reply: Any, load: Load[E]) -> list[E]:
        entries = self.decoded(reply[0])
        if entries is not None:
            return entries
        # A change that Redis was told of has left another mark: who finds this one misses nothing.
        place = reply[0] or b""
        return await single_flight.shared((self.key(owner), place), lambda: self._fill(owner, place, load))

    async def _fill(self, owner: Owner, place: bytes, load: Load[E]) -> list[E]:
        entries = await running.on_loop(load, ids.MAX, self.keep)
        try:
            await cache.run(_FILL.command([self.key(owner)], [place, msgspec.msgpack.encode(entries), TTL_SECONDS]))
        except cache.CacheUnavailable:
            pass  # the answer is at hand; a later read fills the cache
        return entries

    def key(self, owner: Owner) -> str:
        """Where an owner's list is."""
        whose = ids.encode(owner) if isinstance(owner, int) else ids.encode(owner[0]) + ids.encode(owner[1])
        return f"{self.name}:{whose}"
