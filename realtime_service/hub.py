"""Who is here: users, their sockets, and what goes to them."""

import asyncio
import contextlib
import logging
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import msgspec

from realtime_service import inbox
from realtime_service.bus import Bus
from realtime_service.frames import Event
from realtime_service.here import TOGETHER, Here
from realtime_service.presence import LOOK_SECONDS, TypingHere
from realtime_service.topics import Topics
from shared.kernel import cache, ids, sessions
from shared.kernel.config import settings
from shared.kernel.problems import Unavailable
from shared.live.publish import GATE, TOPIC, channel
from shared.presence import actions as presence
from shared.presence import reads as presences

if TYPE_CHECKING:
    from realtime_service.connection import Connection

RECHECK_SECONDS: Final = 30.0
_SEQ: Final = re.compile(rb'\{"event":"[a-z_.]+","seq":(\d+),')
_log: Final = logging.getLogger("live.hub")


class _Ended(msgspec.Struct):
    session_id: str


class _SessionEnded(msgspec.Struct):
    event: str
    data: _Ended


class Hub:
    """The sockets of this instance, by user."""

    def __init__(self, instance_id: str):
        self.instance_id = instance_id
        self._here = Here(instance_id)
        self.users: dict[int, set[Connection]] = {}
        self.bus = Bus(self._heard, self._relinked, self._unlinked)
        self.topics = Topics(self.bus)
        self.typing = TypingHere(self._deliver)
        # From where on Redis was whole when it was last looked at.
        self._floor = 0

    async def run(self) -> None:
        """Keep the link, the sessions' state and the presence until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.bus.run())
            tasks.create_task(self._hear_gate())
            tasks.create_task(_every(RECHECK_SECONDS, self._recheck_sessions))
            tasks.create_task(_every(presences.away_ms() / 3000, self._keep_presence))
            tasks.create_task(_every(LOOK_SECONDS, self.topics.look_at_lapsed))

    async def _hear_gate(self) -> None:
        with contextlib.suppress(cache.CacheUnavailable):
            await self.bus.subscribe(GATE)  # and should it not be linked yet, then when it is

    def is_full(self, user_id: int) -> bool:
        """Whether a user has as many sockets here as they may."""
        return len(self.users.get(user_id, ())) >= settings().live_sockets_per_user

    async def add(self, connection: "Connection") -> None:
        """Take a socket in; returns when its user's channel is heard, or it was let go. Raises CacheUnavailable."""
        self.users.setdefault(connection.user_id, set()).add(connection)
        # Present first: what only those who are here are told is told from when their channel is heard.
        await asyncio.shield(self._here.came(connection.user_id))
        # Closed meanwhile, it was let go: nobody would take its channel away.
        if connection in self.users.get(connection.user_id, ()):
            await self.bus.subscribe(channel(connection.user_id))

    def remove(self, connection: "Connection") -> None:
        """Let a socket go; with a user's last one, their channel. They count as here for a while."""
        here = self.users.get(connection.user_id)
        if here is None or connection not in here:
            return
        here.discard(connection)
        self.topics.unsubscribe(connection, list(connection.topics))
        if not here:
            del self.users[connection.user_id]
            self.bus.unsubscribe(channel(connection.user_id))
            self._here.left(connection.user_id)

    def connections(self) -> "list[Connection]":
        """Every socket."""
        return [connection for here in self.users.values() for connection in here]

    def _heard(self, name: str, payload: bytes) -> None:
        try:
            self._pass_on(name, payload)
        except (ValueError, msgspec.MsgspecError):
            _log.exception("what came on a channel is no event", extra={"channel": name})

    def _pass_on(self, name: str, payload: bytes) -> None:
        if name == GATE or name.startswith(TOPIC):
            self.topics.heard(name, payload)
            return
        user_id = ids.decode(name.rpartition(":")[2])
        match = _SEQ.match(payload)
        event = Event(payload, int(match[1]) if match else None)
        here = self.users.get(user_id, ())
        if event.seq is None and payload.startswith(b'{"event":"session.ended"'):
            session_id = ids.decode(msgspec.json.decode(payload, type=_SessionEnded).data.session_id)
            for connection in [one for one in here if one.session_id == session_id]:
                connection.deliver(event)
                connection.close(4401, "session ended")
            return
        if event.seq is None and payload.startswith(b'{"event":"typing"') and not self.typing.heard(user_id, payload):
            return
        self._deliver(user_id, event)

    def _deliver(self, user_id: int, event: Event) -> None:
        for connection in self.users.get(user_id, ()):
            connection.deliver(event)

    def _unlinked(self) -> None:
        for connection in self.connections():
            connection.cut()

    async def _relinked(self) -> None:
        """After a gap: what each user missed, from their inbox, or `resync` where that is not whole."""
        self._floor = await inbox.note_boot()
        await self._tell_all_presence()
        self.topics.relinked()
        await self._catch_up(cut=True)

    async def _catch_up(self, *, cut: bool) -> None:
        connections = self.connections()
        for start in range(0, len(connections), TOGETHER):
            some = connections[start : start + TOGETHER]
            work = [self._catch_up_one(one, mend=one.cuts if cut else 0) for one in some]
            done = await asyncio.gather(*work, return_exceptions=True)
            for connection, fault in zip(some, done, strict=True):
                if isinstance(fault, Exception):
                    _log.error("can't catch up", exc_info=fault)
                    connection.close(1011, "internal error")

    async def _catch_up_one(self, connection: "Connection", *, mend: int) -> None:
        await connection.catch_up(lambda seq: inbox.since(connection.user_id, seq, linked=True), mend=mend)

    async def _recheck_sessions(self) -> None:
        # An end is heard at once; this catches one that was published while the link was down.
        connections = self.connections()
        for start in range(0, len(connections), TOGETHER):
            some = connections[start : start + TOGETHER]
            (states,) = await cache.run(("MGET", *[sessions.key(one.session_id) for one in some]))
            for connection, state in zip(some, states, strict=True):
                live = state == b"1" or (state is None and await sessions.is_live(connection.session_id))
                if not live:
                    connection.close(4401, "session ended")

    async def _keep_presence(self) -> None:
        floor = await inbox.note_boot()
        await self._tell_all_presence()
        if floor != self._floor:
            # It was emptied while it was linked: nobody counted as here any more, and who was may have missed some.
            self._floor = floor
            await self._catch_up(cut=False)

    async def _tell_all_presence(self) -> None:
        users = list(self.users)
        for start in range(0, len(users), TOGETHER):
            some = [user for user in users[start : start + TOGETHER] if user in self.users]
            if some:
                await cache.run(presence.here(some, self.instance_id))


async def _every(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    """Do `work` again and again. A store that is away, or a fault, is for the next time: no socket is closed for it."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except Unavailable as fault:
            _log.warning("can't look after the sockets just now", extra={"reason": str(fault)})
        except Exception:
            _log.exception("looking after the sockets failed")
