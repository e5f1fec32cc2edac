"""Who is here: users, their sockets, and what goes to them."""

import asyncio
import contextlib
import logging
import re
from typing import TYPE_CHECKING, Final

import msgspec

from realtime_service import inbox
from realtime_service.bus import Bus
from realtime_service.frames import Event
from shared.kernel import cache, clock, ids, sessions
from shared.live.publish import channel

if TYPE_CHECKING:
    from realtime_service.connection import Connection

RECHECK_SECONDS: Final = 30.0
PRESENCE_SECONDS: Final = 20.0
PRESENCE_MS: Final = 60_000
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
        self.users: dict[int, set[Connection]] = {}
        self.bus = Bus(self._heard, self._relinked)

    async def run(self) -> None:
        """Keep the link, the sessions' state and the presence until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.bus.run())
            tasks.create_task(self._recheck_sessions())
            tasks.create_task(self._keep_presence())

    async def add(self, connection: "Connection") -> None:
        """Take a socket in; returns when its user's channel is heard. Raises CacheUnavailable."""
        self.users.setdefault(connection.user_id, set()).add(connection)
        await self.bus.subscribe(channel(connection.user_id))
        with contextlib.suppress(cache.CacheUnavailable):
            await cache.run(*self._present(connection.user_id))

    def remove(self, connection: "Connection") -> None:
        """Let a socket go; with a user's last one, their channel and presence."""
        here = self.users.get(connection.user_id)
        if here is None or connection not in here:
            return
        here.discard(connection)
        if not here:
            del self.users[connection.user_id]
            self.bus.unsubscribe(channel(connection.user_id))
            self._background(self._absent(connection.user_id))

    def connections(self) -> "list[Connection]":
        """Every socket."""
        return [connection for here in self.users.values() for connection in here]

    def _heard(self, name: str, payload: bytes) -> None:
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
        for connection in here:
            connection.deliver(event)

    async def _relinked(self) -> None:
        """After a gap: what each user missed, from their inbox, or `resync` where that is not whole."""
        lost = await inbox.note_boot()
        for connection in self.connections():
            missed = None if lost else await inbox.since(connection.user_id, connection.last_seq)
            if missed is None:
                connection.resync()
            else:
                for event in missed:
                    connection.deliver(event)

    async def _recheck_sessions(self) -> None:
        # An end is heard at once; this catches one that was published while the link was down.
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            connections = self.connections()
            for start in range(0, len(connections), 500):
                some = connections[start : start + 500]
                with contextlib.suppress(cache.CacheUnavailable):
                    (states,) = await cache.run(("MGET", *[sessions.key(one.session_id) for one in some]))
                    for connection, state in zip(some, states, strict=True):
                        live = state == b"1" or (state is None and await sessions.is_live(connection.session_id))
                        if not live:
                            connection.close(4401, "session ended")

    async def _keep_presence(self) -> None:
        while True:
            await asyncio.sleep(PRESENCE_SECONDS)
            users = list(self.users)
            for start in range(0, len(users), 500):
                with contextlib.suppress(cache.CacheUnavailable):
                    await cache.run(
                        *[command for user in users[start : start + 500] for command in self._present(user)]
                    )

    def _present(self, user_id: int) -> list[cache.Command]:
        key = f"presence:{ids.encode(user_id)}"
        return [
            ("ZADD", key, clock.now_ms() + PRESENCE_MS, self.instance_id),
            ("PEXPIRE", key, PRESENCE_MS),
        ]

    async def _absent(self, user_id: int) -> None:
        with contextlib.suppress(cache.CacheUnavailable):
            await cache.run(("ZREM", f"presence:{ids.encode(user_id)}", self.instance_id))

    def _background(self, work: "asyncio.Future[None] | object") -> None:
        task = asyncio.ensure_future(work)  # type: ignore[arg-type]
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)


_tasks: "set[asyncio.Future[None]]" = set()
