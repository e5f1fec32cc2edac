"""The WebSocket service: upgrades, authentication, pings, and a drained end."""

import asyncio
import contextlib
import logging
import os
import random
import re
import sys
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import msgspec
import picows
from picows import WSUpgradeRequest, WSUpgradeResponse, WSUpgradeResponseWithListener

from realtime_service import asyncapi, inbox
from realtime_service.connection import Connection
from realtime_service.frames import SUBPROTOCOLS
from realtime_service.hub import Hub
from realtime_service.turn import Turn
from shared.kernel import cache, http, sessions, tokens
from shared.kernel.config import settings
from shared.kernel.problems import Forbidden, NotFound, Problem, Unauthorized, Unavailable, Unreadable

PATH: Final = "/v1/live"
VERSION: Final = "13"
PING_SECONDS: Final = float(os.environ.get("LIVE_PING_SECONDS", "25"))
IDLE_SECONDS: Final = float(os.environ.get("LIVE_IDLE_SECONDS", "60"))
# So long what was asked may still take at the end, and clients to answer that they go. Cloud Run kills after 10 s.
ANSWER_SECONDS: Final = 3.0
LEAVE_SECONDS: Final = 2.0
# It grows when needed; most sockets send little, and picows's own 16 KiB would be most of an idle one's memory.
READ_BUFFER: Final = 1024
_log: Final = logging.getLogger("live")


class Credentials(msgspec.Struct, frozen=True):
    """What a client came with: an access token, or a ticket."""

    token: str | None
    ticket: str | None


class UpgradeRequired(Problem):
    """426: no WebSocket, or one of another version (RFC 6455, 4.2.2)."""

    status = 426

    def __init__(self) -> None:
        headers = {"Upgrade": "websocket", "Sec-WebSocket-Version": VERSION}
        super().__init__("upgrade_required", f"Ask for a WebSocket of version {VERSION}.", headers=headers)


class Server:
    """The service on one port."""

    def __init__(self) -> None:
        self.hub = Hub(settings().instance_id)
        self.turn = Turn()
        self.draining = False
        # Those who are being taken in.
        self._coming: set[Connection] = set()

    async def run(self, host: str, port: int, stop: asyncio.Event) -> None:
        """Serve until `stop`, then drain."""
        keeping = [asyncio.create_task(self.hub.run()), asyncio.create_task(self._ping())]
        server = await picows.ws_create_server(
            self._upgrade,
            host,
            port,
            max_frame_size=sys.maxsize,  # it would close with 1009: see Intake
            read_buffer_init_size=READ_BUFFER,
            enable_auto_pong=False,  # it would go on past the rate allowed, and past our close
            websocket_handshake_timeout=5,
        )
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([stopping, *keeping], return_when=asyncio.FIRST_COMPLETED)
        self.draining = True
        server.close()
        await self._drain()
        for task in keeping:
            if task.done():
                task.result()  # they never end by themselves but by a fault
            task.cancel()

    async def _drain(self) -> None:
        """Send all away, each once what it has asked is answered; who waits for longer is sent away all the same."""
        await asyncio.sleep(0)  # who came just before is being taken in by then
        connections = {*self.hub.connections(), *self._coming}
        for connection in connections:
            connection.end(1001, _advice())
        await _gone(connections, ANSWER_SECONDS)
        for connection in connections:
            connection.close(1001, _advice())
        await _gone(connections, LEAVE_SECONDS)

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(PING_SECONDS)
            now = time.monotonic()
            for connection in self.hub.connections():
                if now - connection.heard_at > IDLE_SECONDS:
                    connection.close(4408, "idle")
                else:
                    connection.ping()

    def _upgrade(self, request: WSUpgradeRequest) -> Any:
        try:
            url = urlsplit(request.path.decode("latin-1"))
        except ValueError:
            return _plain(400, Unreadable("unreadable_path").document())
        if url.path in ("/healthz", "/readyz"):
            return self._health(url.path)
        if url.path == asyncapi.PATH:
            return _said(200, asyncapi.encoded())
        chosen = ""
        try:
            if url.path != PATH:
                raise NotFound("no_such_path", f"The live service is at {PATH}.")
            if self.draining:
                raise Unavailable("this instance")
            if request.headers.get("Sec-WebSocket-Version") != VERSION:
                raise UpgradeRequired
            # Firefox says `keep-alive, Upgrade`, as RFC 6455 has it (4.2.1), which picows takes for no upgrade.
            if "upgrade" in re.split(r"[,\s]+", ",".join(request.headers.getall("Connection", [])).lower()):
                request.headers["Connection"] = "Upgrade"
            offered = [name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
            chosen = next((name for name in offered if name in SUBPROTOCOLS), "")
            if not chosen:
                raise Unreadable("unknown_subprotocol", f"Offer one of: {', '.join(SUBPROTOCOLS)}.")
            credentials = _credentials(request, url.query)
        except Unauthorized:
            # Accepted and closed with 4401: a browser shows its page no HTTP status of a failed upgrade.
            credentials = Credentials(None, None)
        except Problem as problem:
            return _plain(problem.status, problem.document(), problem.headers)
        admit = self._admission(credentials)
        connection = Connection(SUBPROTOCOLS[chosen], admit, self.hub.remove, self.turn.add, self.hub.topics)
        response = WSUpgradeResponse.create_101_response(extra_headers={"Sec-WebSocket-Protocol": chosen})
        return WSUpgradeResponseWithListener(response, connection)

    def _admission(self, credentials: Credentials) -> Callable[[Connection], Any]:
        async def admit(connection: Connection) -> int:
            self._coming.add(connection)
            try:
                return await self._admit(connection, credentials)
            finally:
                self._coming.discard(connection)

        return admit

    async def _admit(self, connection: Connection, credentials: Credentials) -> int:
        found = await _who(credentials)
        if found is None:
            connection.close(4401, "not signed in")
            return 0
        connection.user_id, connection.session_id = found
        # Connected from the upgrade on: what was sent since then and before the subscription is in the inbox.
        began, lives = await asyncio.gather(inbox.instant(connection.connected_at), _lives(connection.session_id))
        if not lives:
            connection.close(4401, "session ended")  # before anybody is told that its user is here
            return 0
        if self.hub.is_full(connection.user_id):
            connection.close(4429, "too many sockets")
            return 0
        connection.began_at = connection.last_seq = began
        cut = connection.cut()
        await self.hub.add(connection)
        # Asked once its end would be heard: one that came before, be it after the ticket was given, is seen here.
        if not await _lives(connection.session_id):
            connection.close(4401, "session ended")
            return 0
        return cut

    def _health(self, path: str) -> Any:
        up = path == "/healthz" or self.hub.bus.is_up
        return _plain(200 if up else 503, {"status": "up" if up else "down", "sockets": len(self.hub.connections())})


async def _who(credentials: Credentials) -> tuple[int, int] | None:
    """The user and session that the credentials name, whether or not the session still lives."""
    if credentials.ticket is not None:
        return await sessions.redeem_ticket(credentials.ticket)
    if credentials.token is None:
        return None
    with contextlib.suppress(Unauthorized):
        claims = tokens.verify_access(credentials.token)
        return claims.user_id, claims.session_id
    return None


async def _lives(session_id: int) -> bool:
    (state,) = await cache.run(("GET", sessions.key(session_id)))
    return state == b"1" or (state is None and await sessions.is_live(session_id))


def _credentials(request: WSUpgradeRequest, query: str) -> Credentials:
    tickets = parse_qs(query).get("ticket")
    if tickets:
        return Credentials(None, tickets[0])
    authorization = request.headers.get("Authorization")
    if authorization is not None:
        return Credentials(authorization.partition(" ")[2].strip(), None)
    cookie = http.cookie_value(request.headers.get("Cookie", ""))
    if cookie is None:
        return Credentials(None, None)
    # A page elsewhere can open a socket with the user's cookie: its origin has to be one of ours.
    if not http.origin_allowed(request.headers.get("Origin", "")):
        raise Forbidden("cross_site", "With the cookie, the Origin must be one of ours.")
    return Credentials(tokens.open_cookie(cookie), None)


def _advice() -> str:
    # Not all at once: the instances that are left take the clients over a few seconds.
    delay = random.randint(0, 5000)  # noqa: S311 - spread, not a secret
    return msgspec.json.encode({"reconnect_in_ms": delay}).decode()


async def _gone(connections: Iterable[Connection], seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.gather(*[connection.gone.wait() for connection in connections])


def _plain(
    status: int, document: dict[str, Any], headers: dict[str, str] | None = None
) -> WSUpgradeResponseWithListener:
    return _said(status, msgspec.json.encode(document), headers)


def _said(status: int, body: bytes, headers: dict[str, str] | None = None) -> WSUpgradeResponseWithListener:
    kind = "application/json" if status < 400 else http.PROBLEM_TYPE
    if status < 400:
        response = WSUpgradeResponse.create_ok_response(body, {"Content-Type": kind})
    else:
        response = WSUpgradeResponse.create_error_response(
            HTTPStatus(status), body, {"Content-Type": kind, **(headers or {})}
        )
    return WSUpgradeResponseWithListener(response, None)
