"""Presence and typing, as those hear of it who are here: what is not said again ends by itself.

That somebody came is told by whoever said so first. That they went nobody can be relied on to tell, since an instance
may be killed: so each that has subscribers remembers until when they are here, and looks again when that has passed.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from realtime_service.frames import Event
from realtime_service.topic import Seen, Topic
from shared.kernel import cache, clock
from shared.kernel.endpoint import Caller
from shared.kernel.problems import NotFound
from shared.presence import actions, reads
from shared.presence.model import PresenceChanged, Typed
from shared.profiles import reads as profiles
from shared.visibility import accepted

TOGETHER: Final = 500
LOOK_SECONDS: Final = 1.0


class PresenceTopic(Topic):
    """Whether a user is here."""

    __slots__ = ("is_here", "until", "user_id", "username")

    def __init__(self, name: str, channel: str, seen: Seen):
        super().__init__(name, channel, seen)
        (self.user_id,) = seen.rests_on
        self.username = name.partition(":")[2]
        self.until = seen.until
        self.is_here = seen.until > clock.now_ms()

    def hear(self, payload: bytes) -> None:
        """They came: until when they are here."""
        self.saw(int(payload))

    def look(self, seen: Seen) -> bytes:
        """As seen, unless it is known here that they are here longer, or it is hidden."""
        self.saw(seen.until)
        return seen.state if seen.hidden else _state(self.username, self.until)

    def saw(self, until: int) -> None:
        """Take until when they are here, and tell it if that makes a difference."""
        self.until = max(self.until, until)
        is_here = self.until > clock.now_ms()
        if is_here != self.is_here:
            self.is_here = is_here
            self.take(self.version + 1, _state(self.username, self.until))


async def see(caller: Caller, user_id: int) -> Seen:
    """A user's presence, as the caller may see it: hidden where but for the setting of one they would see it.

    One's own is never hidden. Raises NotFound, CacheUnavailable.
    """
    profile = await profiles.profile_of(caller, user_id)
    value, reply = await cache.run(("GET", accepted.key(user_id, caller.user_id)), reads.ask(user_id))
    rests_on, until = frozenset((user_id,)), reads.until_in(reply)
    if profile.presence is not msgspec.UNSET or user_id == caller.user_id:
        return Seen(_state(profile.user.username, until), rests_on, until)
    follows = profile.viewer is not None and profile.viewer.followed_by
    if not await accepted.shows_presence(user_id, caller.user_id, follows=follows, value=value):
        raise NotFound
    return Seen(_state(profile.user.username, 0), rests_on, until, hidden=True)


def _state(username: str, until: int) -> bytes:
    found = reads.presence_at(until)
    return msgspec.json.encode(PresenceChanged(username, found.presence, found.last_seen))


async def look_at_lapsed(topics: Iterable[Topic]) -> None:
    """Look whether those are still here of whom that is known up to now. Raises CacheUnavailable."""
    now = clock.now_ms()
    lapsed = [topic for topic in topics if isinstance(topic, PresenceTopic) and topic.is_here and topic.until <= now]
    for start in range(0, len(lapsed), TOGETHER):
        some = lapsed[start : start + TOGETHER]
        for topic, reply in zip(some, await cache.run(*[reads.ask(one.user_id) for one in some]), strict=True):
            topic.saw(reads.until_in(reply))


class _TypingEvent(msgspec.Struct):
    data: Typed


class TypingHere:
    """Who types to whom of this instance's users. `tell` gets what ends by itself."""

    def __init__(self, tell: Callable[[int, Event], None]):
        self._tell = tell
        self._ends: dict[tuple[int, str], asyncio.TimerHandle] = {}

    def heard(self, user_id: int, payload: bytes) -> bool:
        """Take what came for a user; whether it is to be told: not the end of what has ended."""
        typed = msgspec.json.decode(payload, type=_TypingEvent).data
        pair = (user_id, typed.sender)
        ends = self._ends.pop(pair, None)
        if ends is not None:
            ends.cancel()
        if typed.on:
            loop = asyncio.get_running_loop()
            self._ends[pair] = loop.call_later(actions.TYPING_MS / 1000, self._end, pair)
        return typed.on or ends is not None

    def _end(self, pair: tuple[int, str]) -> None:
        del self._ends[pair]
        user_id, sender = pair
        self._tell(user_id, Event(actions.typing(sender, on=False), None))
