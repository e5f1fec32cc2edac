"""A deploy: instances of the live service are restarted one by one, under load, and no client misses a thing."""

import asyncio
import contextlib
import itertools
import random
import resource
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.typing import Subprotocol

from infra.local.stack import Stack
from shared.kernel import cache, clock, db, ids, sessions, tokens
from shared.profiles import reads as profiles
from tests.client import Format, Person, sign_up, wait_until
from tests.live.instances import Instance, instance
from tests.profiles.people import insert_followers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

CLIENTS = 1000
POSTS = 12
TICK_SECONDS = 0.2
# What a host gives an instance to end, and a machine that is busy to catch up.
GRACE_SECONDS = 10.0
PATIENCE_SECONDS = 60.0
CODECS: dict[Format, Any] = {"json": msgspec.json, "msgpack": msgspec.msgpack}
INSERT_SESSIONS = db.Statement(
    """INSERT INTO sessions (id, user_id, refresh_digest, user_agent, created_at, last_used_at, refresh_expires_at)
       SELECT id, user_id, '', 'test', :now, :now, CAST(:now AS bigint) + 3600000
         FROM unnest(CAST(:ids AS bigint[]), CAST(:users AS bigint[])) AS s (id, user_id)"""
)
Expected = Counter[tuple[str, str]]


class Client:
    """A device that listens, and comes back as it is advised, to an instance that is up; it resumes where it was."""

    def __init__(self, user_id: int, token: str, format: Format):
        self.user_id = user_id
        self.token = token
        self.format: Format = format
        self.expected = Expected()
        # From where on it has to hear everything; then what it has heard, as it came.
        self.since = 0
        self.seqs: list[int] = []
        self.heard = Expected()
        self.resyncs = 0
        self.is_in = False
        self._early: list[dict[str, Any]] = []
        self.closed: list[tuple[int, str]] = []

    async def run(self, up: list[Instance]) -> None:
        while True:
            wait = random.uniform(0, 0.5)
            with contextlib.suppress(OSError, TimeoutError, WebSocketException):
                async with connect(
                    random.choice(up).url,
                    subprotocols=[Subprotocol(f"i9lyfe.v1.{self.format}")],
                    additional_headers={"Authorization": f"Bearer {self.token}"},
                    compression=None,
                    ping_interval=None,
                    proxy=None,
                ) as socket:
                    wait = await self._listen(socket) or wait
            await asyncio.sleep(wait)

    async def _listen(self, socket: ClientConnection) -> float | None:
        """Hear all until it is closed; the advice when to come back, in seconds."""
        asked = {"id": 1, "action": "resume", "data": {"after": max([self.since, *self.seqs[-1:]])}}
        self._early = []
        encoded = CODECS[self.format].encode(asked)
        try:
            await socket.send(encoded.decode() if self.format == "json" else encoded)
            while True:
                self._take(CODECS[self.format].decode(await socket.recv()))
        except ConnectionClosed:
            if not self.is_in:
                return None
            self.is_in = False
            code, reason = socket.close_code or 0, socket.close_reason or ""
            self.closed.append((code, reason))
            return _advice(reason) / 1000 if code == 1001 else None

    def _take(self, message: dict[str, Any]) -> None:
        if "reply_to" in message:
            assert message["ok"], message
            self.since = self.since or message["data"]["seq"]
            self.is_in = True
            # Who was slow to ask has heard some that are new before those it had missed.
            for event in sorted(self._early, key=lambda event: event["seq"]):
                self._note(event)
        elif message["event"] == "resync":
            self.resyncs += 1
        elif self.is_in:
            self._note(message)
        else:
            self._early.append(message)

    def _note(self, event: dict[str, Any]) -> None:
        self.seqs.append(event["seq"])
        data = event["data"]
        self.heard[event["event"], data.get("message_id") or data["id"]] += 1


class Load(threading.Thread):
    """What an author does all the while: posts for all, messages to some, reactions to those."""

    def __init__(self, author: Person, own: Client, followers: dict[str, Client]):
        super().__init__(daemon=True)
        self.author, self.own, self.followers = author, own, followers
        self.media = [author.upload_photo(seed) for seed in range(POSTS)]
        self.over = threading.Event()
        self.fault: Exception | None = None

    def run(self) -> None:
        try:
            for tick in itertools.count():
                self._message(random.choice(list(self.followers)), tick)
                if tick % 5 == 0 and self.media:
                    self._post(tick)
                if self.over.wait(TICK_SECONDS):
                    return
        except Exception as fault:
            self.fault = fault

    def _message(self, to: str, tick: int) -> None:
        body = {"client_id": str(tick), "content": {"type": "text", "text": f"Number {tick}"}}
        message = self.author.post(f"/v1/chats/{to}/messages", body)["id"]
        self.author.put(f"/v1/messages/{message}/reaction", {"emoji": "🔥"})
        for client in (self.own, self.followers[to]):
            client.expected.update([("message.created", message), ("message.reacted", message)])

    def _post(self, tick: int) -> None:
        body = {"type": "photo:square", "media": [self.media.pop()], "description": f"Number {tick}"}
        post = self.author.post("/v1/posts", body)["id"]
        for client in (self.own, *self.followers.values()):
            client.expected["feed.post_created", post] += 1


def clients_of(user_ids: list[int]) -> list[Client]:
    """A signed-in device for each of these users; every second one speaks MessagePack."""
    first = ids.new_id()
    made = [first + number for number in range(len(user_ids))]
    with db.connection() as conn:
        INSERT_SESSIONS.run(conn, ids=made, users=user_ids, now=clock.now_ms())
    cache.run_sync(*map(sessions.started, made))
    formats = itertools.cycle(CODECS)
    return [
        Client(user_id, tokens.issue_access(user_id, session_id)[0], next(formats))
        for user_id, session_id in zip(user_ids, made, strict=True)
    ]


@contextmanager
def listening(clients: list[Client], up: list[Instance]) -> Iterator[None]:
    """All of them listen, by an event loop of their own, until the end."""
    loop, over = asyncio.new_event_loop(), asyncio.Event()

    async def listen() -> None:
        async with asyncio.TaskGroup() as group:
            tasks: list[asyncio.Task[None]] = []
            for client in clients:
                tasks.append(group.create_task(client.run(up)))
                await asyncio.sleep(0.002)  # not all at once: what stands before the service wouldn't let them
            await over.wait()
            for task in tasks:
                task.cancel()

    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(loop.run_until_complete, listen())
        try:
            yield
        finally:
            loop.call_soon_threadsafe(over.set)
            running.result()
            loop.close()


def kept(client: Client) -> list[int]:
    """All that is in a client's inbox of what it has to hear."""
    (entries,) = cache.run_sync(("XRANGE", f"inbox:{ids.encode(client.user_id)}", f"({client.since}-0", "+"))
    return [int(entry[0].partition(b"-")[0]) for entry in entries]


def test_a_rolling_restart_under_load_loses_nothing_for_anyone(stack: Stack) -> None:
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(files, 4 * CLIENTS), most))
    author = sign_up(stack)
    names = insert_followers(author, CLIENTS - 1)
    own, *others = clients = clients_of(
        [profiles.named([author.username])[author.username], *[int(name[1:]) for name in names]]
    )
    load = Load(author, own, dict(zip(names, others, strict=True)))
    with ExitStack() as running:
        up = [running.enter_context(instance(stack, name)) for name in ("one", "two")]
        running.enter_context(listening(clients, up))
        wait_until(lambda: all(client.is_in for client in clients), PATIENCE_SECONDS)
        load.start()
        # The next as soon as the one before is up: its clients may be on their way to it.
        for name, old in zip(("one", "two"), list(up), strict=True):
            up.remove(old)
            old.process.send_signal(signal.SIGTERM)
            assert old.process.wait(GRACE_SECONDS) == 0
            up.append(running.enter_context(instance(stack, name, old.port)))
        wait_until(lambda: all(client.is_in for client in clients) and not load.media, PATIENCE_SECONDS)
        load.over.set()
        load.join(PATIENCE_SECONDS)
        assert load.fault is None
        wait_until(lambda: all(client.heard >= client.expected for client in clients), PATIENCE_SECONDS)

        for client in clients:
            assert client.heard == client.expected
            assert client.seqs == kept(client)
            assert client.resyncs == 1  # at first, with nothing to resume from
        closed = [(code, reason) for client in clients for code, reason in client.closed]
        assert {code for code, _ in closed} == {1001}
        spread([_advice(reason) for _, reason in closed])


def _advice(reason: str) -> int:
    """When to come back, in ms."""
    return int(msgspec.json.decode(reason)["reconnect_in_ms"])


def spread(advised: list[int]) -> None:
    """Each second of five has its part of those who come back."""
    seconds = Counter(min(one // 1000, 4) for one in advised)
    assert len(advised) >= CLIENTS
    assert all(len(advised) / 10 < seconds[second] < len(advised) / 3 for second in range(5)), seconds
