"""One topic that somebody here subscribes to: its state, and when it is told."""

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from realtime_service.frames import Event
from shared.kernel import clock

if TYPE_CHECKING:
    from realtime_service.connection import Connection

INTERVAL_SECONDS: Final = 0.5
EVENTS: Final = {"post": "post.metrics", "comment": "comment.metrics", "presence": "presence.changed"}


class Seen(NamedTuple):
    """A topic's state as a user may see it, and the ids of what could hide it: people, and what it hangs on.

    `version` is that of the state, 0 where that isn't known. Of somebody's presence, `until` is until when they are or
    were here; `hidden`: one of the two hides theirs just now, so the state doesn't say it.
    """

    state: bytes
    rests_on: frozenset[int]
    until: int = 0
    version: int = 0
    hidden: bool = False


class Look:
    """A look under way at what a subscriber may see; `again`: they are told also what they know already."""

    __slots__ = ("again",)

    def __init__(self, *, again: bool):
        self.again = again


class Topic:
    """One subject that somebody here subscribes to: by the name that they know, on the channel of its id."""

    __slots__ = ("blind", "channel", "due", "looks", "name", "newest", "rests_on", "sent_at", "subscribers", "version")

    def __init__(self, name: str, channel: str, seen: Seen):
        self.name = name
        self.channel = channel
        self.rests_on = seen.rests_on
        self.subscribers: set[Connection] = set()
        # Those of them from whom it is hidden just now, and the latest look under way for each.
        self.blind: set[Connection] = set()
        self.looks: dict[Connection, Look] = {}
        self.version = seen.version
        self.newest = seen.state
        self.sent_at = 0.0
        self.due: asyncio.TimerHandle | None = None

    def hear(self, payload: bytes) -> None:
        """Take what came on its channel."""
        version, _, state = payload.partition(b" ")
        self.take(int(version), state)

    def look(self, seen: Seen) -> bytes:
        """The state to tell who has just seen it so: what is older won't be told after it, nor it after what is newer.

        Of no known version it is what Postgres had just now.
        """
        if seen.version >= self.version or not seen.version:
            self.version, self.newest = max(self.version, seen.version), seen.state
        return self.newest

    def take(self, version: int, state: bytes) -> None:
        """Have this state told, now or when half a second has gone since the last; unless a newer one was told."""
        if version <= self.version:
            return
        self.version, self.newest = version, state
        if self.due is None:
            loop = asyncio.get_running_loop()
            self.due = loop.call_at(max(loop.time(), self.sent_at + INTERVAL_SECONDS), self._tell)

    def event(self, state: bytes) -> Event:
        """The event that tells a state of it."""
        kind = EVENTS[self.channel.partition(":")[0]]
        return Event(b'{"event":"%b","at":%d,"data":%b}' % (kind.encode(), clock.now_ms(), state), None)

    def _tell(self) -> None:
        self.due = None
        self.sent_at = asyncio.get_running_loop().time()
        event = self.event(self.newest)
        for connection in self.subscribers:
            if connection not in self.blind:
                connection.deliver(event)

    def begin_look(self, connection: "Connection", *, again: bool) -> Look:
        """Look anew at what a subscriber may see, in place of a look under way."""
        earlier = self.looks.get(connection)
        look = self.looks[connection] = Look(again=again or (earlier is not None and earlier.again))
        return look

    def show(self, connection: "Connection", seen: Seen, *, again: bool) -> None:
        """Tell a subscriber how it is: `again`, or because it is hidden from them from now on, or no more."""
        was_hidden = connection in self.blind
        (self.blind.add if seen.hidden else self.blind.discard)(connection)
        if again or seen.hidden != was_hidden:
            state = self.look(seen)
            if seen.hidden or self.due is None:  # else all are told in a moment
                connection.deliver(self.event(state))

    def leave(self, connection: "Connection") -> None:
        """A socket subscribes no more."""
        self.subscribers.discard(connection)
        self.blind.discard(connection)
        self.looks.pop(connection, None)

    def end(self) -> None:
        """Nobody subscribes any more."""
        if self.due is not None:
            self.due.cancel()
