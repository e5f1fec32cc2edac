"""Topics: what sockets subscribe to beyond their user's own events, the counts of posts and comments.

A topic is a channel; its news have the version of the row they tell of, and are the whole state, so the newest is all
that counts. At most two a second go out, the last one always. A subscription ends when its socket does, and when what
it is about is hidden from its user: what may change that is told on one channel that every instance hears.
"""

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from realtime_service.bus import Bus
from realtime_service.frames import Event
from shared.comments import reads as comments
from shared.kernel import cache, clock, ids
from shared.kernel.endpoint import Caller, CommentId, PostId
from shared.kernel.problems import FieldError, Invalid, NotFound
from shared.live.publish import GATE, TOPIC, rests_in
from shared.posts import reads as posts

if TYPE_CHECKING:
    from realtime_service.connection import Connection

MAX_TOPICS: Final = 100
INTERVAL_SECONDS: Final = 0.5
TOGETHER: Final = 100
_log: Final = logging.getLogger("live.topics")


class _State(msgspec.Struct, frozen=True):
    """What an event tells: of a whole post or comment, the part that is counted."""

    id: str
    counts: dict[str, int]
    reactions: dict[str, int]


class _Shown(_State, frozen=True):
    """A post or comment as its reader sees it."""

    deleted_at: int | None = None


class Seen(NamedTuple):
    """A topic's state as a user may see it, and the ids of what could hide it: people, and what it hangs on."""

    state: bytes
    rests_on: frozenset[int]


class Topic:
    """One subject that somebody here subscribes to."""

    __slots__ = ("due", "name", "newest", "rests_on", "sent_at", "subscribers", "version")

    def __init__(self, name: str, rests_on: frozenset[int]):
        self.name = name
        self.rests_on = rests_on
        self.subscribers: set[Connection] = set()
        self.version = 0
        self.newest = b""
        self.sent_at = 0.0
        self.due: asyncio.TimerHandle | None = None

    def take(self, version: int, state: bytes) -> None:
        """Have this state told, now or when half a second has gone since the last; unless a newer one was told."""
        if version <= self.version:
            return
        self.version, self.newest = version, state
        if self.due is None:
            loop = asyncio.get_running_loop()
            self.due = loop.call_at(max(loop.time(), self.sent_at + INTERVAL_SECONDS), self._tell)

    def _tell(self) -> None:
        self.due = None
        self.sent_at = asyncio.get_running_loop().time()
        event = _event(self.name, self.newest)
        for connection in self.subscribers:
            connection.deliver(event)

    def end(self) -> None:
        """Nobody subscribes any more."""
        if self.due is not None:
            self.due.cancel()


class Topics:
    """The topics of this instance."""

    def __init__(self, bus: Bus):
        self._bus = bus
        self._topics: dict[str, Topic] = {}
        self._resting: defaultdict[int, set[Topic]] = defaultdict(set)
        # How many are about to subscribe: its channel is to be heard for them, too.
        self._wanted = Counter[str]()
        self._checks: set[asyncio.Task[None]] = set()

    async def subscribe(self, connection: "Connection", names: Sequence[str]) -> None:
        """Subscribe a socket to all of these, or with any fault to none; each begins with its state.

        Raises Invalid, CacheUnavailable, DatabaseUnavailable.
        """
        places = {name: index for index, name in enumerate(_known(names))}
        wanted = [name for name in places if name not in connection.topics]
        if len(connection.topics) + len(wanted) > MAX_TOPICS:
            raise Invalid.field("topics", "too_many", f"A socket can subscribe to {MAX_TOPICS} topics.")
        self._wanted.update(wanted)
        try:
            # Heard before it is read: nothing falls between.
            await asyncio.gather(*[self._bus.subscribe(TOPIC + name) for name in wanted])
            seen = await asyncio.gather(*[_look(connection, name) for name in wanted])
            errors = [_absent(places[name]) for name, found in zip(wanted, seen, strict=True) if found is None]
            if errors:
                raise Invalid(errors)
            for name, found in zip(wanted, seen, strict=True):
                if found is not None and connection.is_open:
                    self._join(connection, name, found)
        finally:
            self._wanted.subtract(wanted)
            for name in wanted:
                self._forget_if_unused(name)

    def unsubscribe(self, connection: "Connection", names: Iterable[str]) -> None:
        """End these subscriptions of a socket's; of those it hasn't there is nothing to end. Raises Invalid."""
        for name in _known(list(names)):
            topic = self._topics.get(name)
            connection.topics.discard(name)
            if topic is not None:
                topic.subscribers.discard(connection)
                self._forget_if_unused(name)

    def heard(self, channel: str, payload: bytes) -> None:
        """Take what came on a channel of topics."""
        if channel == GATE:
            self._recheck(rests_in(payload))
            return
        topic = self._topics.get(channel.removeprefix(TOPIC))
        if topic is not None:
            version, _, state = payload.partition(b" ")
            topic.take(int(version), state)

    def relinked(self) -> None:
        """Something may have been missed: look at everything anew."""
        self._recheck(None)

    def _join(self, connection: "Connection", name: str, seen: Seen) -> None:
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = Topic(name, seen.rests_on)
            for one in seen.rests_on:
                self._resting[one].add(topic)
        topic.subscribers.add(connection)
        connection.topics.add(name)
        connection.deliver(_event(name, seen.state))

    def _forget_if_unused(self, name: str) -> None:
        if self._wanted[name] > 0:
            return
        del self._wanted[name]
        topic = self._topics.get(name)
        if topic is not None:
            if topic.subscribers:
                return
            topic.end()
            del self._topics[name]
            for one in topic.rests_on:
                self._resting[one].discard(topic)
                if not self._resting[one]:
                    del self._resting[one]
        self._bus.unsubscribe(TOPIC + name)

    def _recheck(self, changed: frozenset[int] | None) -> None:
        pairs = [
            (connection, topic)
            for topic in list(self._topics.values())
            for connection in topic.subscribers
            if changed is None or connection.user_id in changed or topic.rests_on & changed
        ]
        if pairs:
            task = asyncio.get_running_loop().create_task(self._look_again(pairs, tell=changed is None))
            self._checks.add(task)
            task.add_done_callback(self._checks.discard)

    async def _look_again(self, pairs: "list[tuple[Connection, Topic]]", *, tell: bool) -> None:
        for start in range(0, len(pairs), TOGETHER):
            some = pairs[start : start + TOGETHER]
            found = await asyncio.gather(*[_look(*_names(pair)) for pair in some], return_exceptions=True)
            for (connection, topic), seen in zip(some, found, strict=True):
                if isinstance(seen, Seen):
                    if tell:
                        connection.deliver(_event(topic.name, seen.state))
                    continue
                self.unsubscribe(connection, [topic.name])
                if seen is not None:
                    # It can't be told whether it is hidden, so nothing is shown; the client is to look and ask anew.
                    _log.warning("can't look at a topic", extra={"reason": f"{type(seen).__name__}: {seen}"})
                    connection.resync()


def _names(pair: "tuple[Connection, Topic]") -> "tuple[Connection, str]":
    return pair[0], pair[1].name


def _known(names: Sequence[str]) -> list[str]:
    """The names in their one form. Raises Invalid, naming those that are none."""
    known = [_known_name(name) for name in names]
    errors = [
        FieldError(f"topics[{index}]", "unknown_topic", 'A topic is "post:<id>" or "comment:<id>".')
        for index, name in enumerate(known)
        if not name
    ]
    if errors:
        raise Invalid(errors)
    return known


def _known_name(name: str) -> str:
    kind, _, subject = name.partition(":")
    try:
        return f"{kind}:{ids.encode(ids.decode(subject))}" if kind in _KINDS else ""
    except ValueError:
        return ""


def _absent(index: int) -> FieldError:
    return FieldError(f"topics[{index}]", "not_found", "There is nothing here, or nothing that you may see.")


async def _look(connection: "Connection", name: str) -> Seen | None:
    """A topic as a socket's user may see it; None where there is nothing for them."""
    kind, _, subject = name.partition(":")
    try:
        return await _KINDS[kind](Caller(connection.user_id, connection.session_id), ids.decode(subject))
    except NotFound:
        return None


async def _see_post(caller: Caller, post_id: int) -> Seen:
    shown = msgspec.json.decode((await posts.post(caller, PostId(post_id))).json, type=_Shown)
    (reply,) = await cache.run(posts.ask_author(post_id))
    author = await posts.take_author(post_id, reply)
    if author is None:
        raise NotFound
    return Seen(_encoded(shown), frozenset((post_id, author)))


async def _see_comment(caller: Caller, comment_id: int) -> Seen:
    shown = msgspec.json.decode((await comments.comment(caller, CommentId(comment_id))).json, type=_Shown)
    if shown.deleted_at is not None:
        raise NotFound  # nothing of it will change any more
    gate = comments.gate_of((await comments.load_bodies([comment_id]))[comment_id])
    return Seen(_encoded(shown), frozenset((comment_id, gate.post_id, *gate.people())))


_KINDS: Final = {"post": _see_post, "comment": _see_comment}


def _encoded(shown: _Shown) -> bytes:
    return msgspec.json.encode(_State(shown.id, shown.counts, shown.reactions))


def _event(name: str, state: bytes) -> Event:
    kind = name.partition(":")[0]
    return Event(b'{"event":"%b.metrics","at":%d,"data":%b}' % (kind.encode(), clock.now_ms(), state), None)
