"""Topics: what sockets subscribe to beyond their user's own events: counts of posts and comments, and who is here.

A topic is a channel; its news are the whole state, so the newest is all that counts: counts have the version of the row
they tell of. At most two a second go out, the last one always. A subscription ends when its socket does, and when what
it is about is hidden from its user: what may change that is told on one channel that every instance hears. Only while
somebody hides when they are here it goes on, or begins, and shows nobody here.
"""

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from realtime_service import presence
from realtime_service.bus import Bus
from realtime_service.topic import Seen, Topic
from shared.comments import reads as comments
from shared.kernel import ids
from shared.kernel.endpoint import Caller, CommentId, PostId, Username, read_path_parameter
from shared.kernel.problems import FieldError, Invalid, NotFound
from shared.live.publish import GATE, TOPIC, Hidden, hidden_in
from shared.posts import reads as posts
from shared.profiles import reads as profiles

if TYPE_CHECKING:
    from realtime_service.connection import Connection

MAX_TOPICS: Final = 100
TOGETHER: Final = 100
_FORMS: Final = 'A topic is "post:<id>", "comment:<id>" or "presence:<username>".'
_log: Final = logging.getLogger("live.topics")


class _State(msgspec.Struct, frozen=True):
    """What an event tells: of a whole post or comment, the part that is counted."""

    id: str
    counts: dict[str, int]
    reactions: dict[str, int]


class _Shown(msgspec.Struct, frozen=True):
    """Whether a comment is there as its reader sees it."""

    deleted_at: int | None = None


class Topics:
    """The topics of this instance."""

    def __init__(self, bus: Bus):
        self._bus = bus
        # By channel, as are those that are wanted and what rests on an id.
        self._topics: dict[str, Topic] = {}
        self._resting: defaultdict[int, set[Topic]] = defaultdict(set)
        # How many are about to subscribe: its channel is to be heard for them, too.
        self._wanted = Counter[str]()
        # What came on such a channel while nobody subscribes to it yet: it may be newer than what they see.
        self._early: defaultdict[str, list[bytes]] = defaultdict(list)
        # The sockets that subscribe to something, by their users.
        self._sockets: defaultdict[int, set[Connection]] = defaultdict(set)
        self._checks: set[asyncio.Task[BaseException | None]] = set()
        # What hides something while one who subscribes is looking: they haven't joined, so it is for them after.
        self._meanwhile: list[list[Hidden | None]] = []

    async def subscribe(self, connection: "Connection", names: Sequence[str]) -> None:
        """Subscribe a socket to all of these, or with any fault to none; each begins with its state.

        Of those that it is subscribed to already it is told their state as well, or they end if it may not see them.
        Raises Invalid, CacheUnavailable, DatabaseUnavailable.
        """
        places = {name: index for index, name in enumerate(_known(names))}
        wanted = [name for name in places if name not in connection.topics]
        if len(connection.topics) + len(wanted) > MAX_TOPICS:
            raise Invalid.field("topics", "too_many", f"A socket can subscribe to {MAX_TOPICS} topics.")
        found = zip(wanted, await asyncio.gather(*[_channel(name) for name in wanted]), strict=True)
        channels = {name: channel for name, channel in found if channel}
        self._wanted.update(channels.values())
        meanwhile: list[Hidden | None] = []
        self._meanwhile.append(meanwhile)
        try:
            # Heard before it is read: nothing falls between.
            await asyncio.gather(*[self._bus.subscribe(TOPIC + channel) for channel in channels.values()])
            looked = await asyncio.gather(*[_look(connection, channel) for channel in channels.values()])
            seen = {name: one for name, one in zip(channels, looked, strict=True) if one is not None}
            held = [(connection, topic) for name, topic in connection.topics.items() if name in places]
            fault = await self._look_again(held, again=True)
            if fault is not None:
                raise fault
            errors = [_absent(at) for name, at in places.items() if name not in seen and name not in connection.topics]
            if errors:
                raise Invalid(errors)
            for name, one in seen.items():
                if connection.is_open:
                    self._join(connection, name, channels[name], one)
            for hidden in meanwhile:
                self._recheck(hidden)
        finally:
            self._meanwhile = [one for one in self._meanwhile if one is not meanwhile]
            self._wanted.subtract(channels.values())
            for channel in channels.values():
                self._forget_if_unused(channel)

    def unsubscribe(self, connection: "Connection", names: Iterable[str]) -> None:
        """End these subscriptions of a socket's; of those it hasn't there is nothing to end. Raises Invalid."""
        for name in _known(list(names)):
            topic = connection.topics.pop(name, None)
            if topic is not None:
                topic.leave(connection)
                self._forget_if_unused(topic.channel)
        if not connection.topics:
            self._sockets[connection.user_id].discard(connection)
            if not self._sockets[connection.user_id]:
                del self._sockets[connection.user_id]

    def heard(self, channel: str, payload: bytes) -> None:
        """Take what came on a channel of topics."""
        if channel == GATE:
            self._hide(hidden_in(payload))
            return
        channel = channel.removeprefix(TOPIC)
        topic = self._topics.get(channel)
        if topic is not None:
            topic.hear(payload)
        elif self._wanted[channel] > 0:
            self._early[channel].append(payload)

    def relinked(self) -> None:
        """Something may have been missed: look at everything anew."""
        self._hide(None)

    def _hide(self, hidden: Hidden | None) -> None:
        for meanwhile in self._meanwhile:
            meanwhile.append(hidden)
        self._recheck(hidden)

    async def look_at_lapsed(self) -> None:
        """Find out who is here no more. Raises CacheUnavailable."""
        await presence.look_at_lapsed(list(self._topics.values()))

    def _join(self, connection: "Connection", name: str, channel: str, seen: Seen) -> None:
        topic = self._topics.get(channel)
        if topic is None:
            kind = presence.PresenceTopic if channel.startswith("presence:") else Topic
            topic = self._topics[channel] = kind(name, channel, seen)
            for one in seen.rests_on:
                self._resting[one].add(topic)
        topic.subscribers.add(connection)
        if seen.hidden:
            topic.blind.add(connection)
        connection.topics[name] = topic
        self._sockets[connection.user_id].add(connection)
        connection.deliver(topic.event(topic.look(seen)))
        for payload in self._early.pop(channel, ()):
            topic.hear(payload)

    def _forget_if_unused(self, channel: str) -> None:
        if self._wanted[channel] > 0:
            return
        del self._wanted[channel]
        self._early.pop(channel, None)
        topic = self._topics.get(channel)
        if topic is not None:
            if topic.subscribers:
                return
            topic.end()
            del self._topics[channel]
            for one in topic.rests_on:
                self._resting[one].discard(topic)
                if not self._resting[one]:
                    del self._resting[one]
        self._bus.unsubscribe(TOPIC + channel)

    def _recheck(self, hidden: Hidden | None) -> None:
        pairs = self._all() if hidden is None else self._touched(hidden)
        if pairs:
            task = asyncio.get_running_loop().create_task(self._look_again(pairs, again=hidden is None))
            self._checks.add(task)
            task.add_done_callback(self._checks.discard)

    def _all(self) -> "list[tuple[Connection, Topic]]":
        return [(connection, topic) for topic in self._topics.values() for connection in topic.subscribers]

    def _touched(self, hidden: Hidden) -> "list[tuple[Connection, Topic]]":
        """The subscriptions that what is hidden may end: no more are looked at than there are of these."""
        resting = self._resting.get(hidden.subject, set())
        if hidden.viewer is not None:
            sockets = self._sockets.get(hidden.viewer, ())
            return [(one, topic) for one in sockets for topic in one.topics.values() if topic in resting]
        pairs = {(connection, topic) for topic in resting for connection in topic.subscribers}
        own = self._sockets.get(hidden.subject, ())
        return list(pairs | {(one, topic) for one in own for topic in one.topics.values()})

    async def _look_again(self, pairs: "list[tuple[Connection, Topic]]", *, again: bool) -> BaseException | None:
        """Tell subscribers what they may see by now, `again` or as far as it has changed. Gives why one couldn't be."""
        fault: BaseException | None = None
        for start in range(0, len(pairs), TOGETHER):
            some = [pair for pair in pairs[start : start + TOGETHER] if pair[0] in pair[1].subscribers]
            looks = [topic.begin_look(connection, again=again) for connection, topic in some]
            found = await asyncio.gather(*[_look(*_channels(pair)) for pair in some], return_exceptions=True)
            for (connection, topic), look, seen in zip(some, looks, found, strict=True):
                if topic.looks.get(connection) is not look:
                    continue  # it ended, or a later look, which may have seen more, is under way or done
                del topic.looks[connection]
                if isinstance(seen, Seen):
                    topic.show(connection, seen, again=look.again)
                    continue
                self.unsubscribe(connection, [topic.name])
                if seen is not None:
                    # It can't be told whether it is hidden, so nothing is shown; the client is to look and ask anew.
                    _log.warning("can't look at a topic", extra={"reason": f"{type(seen).__name__}: {seen}"})
                    connection.resync()
                    fault = seen
        return fault


def _channels(pair: "tuple[Connection, Topic]") -> "tuple[Connection, str]":
    return pair[0], pair[1].channel


def _known(names: Sequence[str]) -> list[str]:
    """The names in their one form. Raises Invalid, naming those that are none."""
    known = [_known_name(name) for name in names]
    errors = [FieldError(f"topics[{index}]", "unknown_topic", _FORMS) for index, name in enumerate(known) if not name]
    if errors:
        raise Invalid(errors)
    return known


def _known_name(name: str) -> str:
    kind, _, subject = name.partition(":")
    try:
        if kind == "presence":
            return f"{kind}:{read_path_parameter(Username, subject)}"
        return f"{kind}:{ids.encode(ids.decode(subject))}" if kind in _KINDS else ""
    except (ValueError, NotFound):
        return ""


async def _channel(name: str) -> str:
    """The channel of a topic, by its subject's id; empty for somebody whom there never was."""
    kind, _, subject = name.partition(":")
    if kind != "presence":
        return name
    try:
        return f"{kind}:{ids.encode(await profiles.resolve(Username(subject)))}"
    except NotFound:
        return ""


def _absent(index: int) -> FieldError:
    return FieldError(f"topics[{index}]", "not_found", "There is nothing here, or nothing that you may see.")


async def _look(connection: "Connection", channel: str) -> Seen | None:
    """A topic as a socket's user may see it; None where there is nothing for them."""
    kind, _, subject = channel.partition(":")
    try:
        return await _KINDS[kind](Caller(connection.user_id, connection.session_id), ids.decode(subject))
    except NotFound:
        return None


async def _see_post(caller: Caller, post_id: int) -> Seen:
    author, core, version = await posts.versioned(post_id)
    await posts.post(caller, PostId(post_id))
    return Seen(_encoded(core), frozenset((post_id, author)), version=version)


async def _see_comment(caller: Caller, comment_id: int) -> Seen:
    gate, core, version = await comments.versioned(comment_id)
    if msgspec.json.decode((await comments.comment(caller, CommentId(comment_id))).json, type=_Shown).deleted_at:
        raise NotFound  # nothing of it will change any more
    return Seen(_encoded(core), frozenset((comment_id, gate.post_id, *gate.people())), version=version)


_KINDS: Final = {"post": _see_post, "comment": _see_comment, "presence": presence.see}


def _encoded(core: bytes) -> bytes:
    return msgspec.json.encode(msgspec.json.decode(core, type=_State))
