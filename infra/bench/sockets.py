"""The live service: deliveries a second of its CPU to many sockets, sockets taken in, and what idle ones cost."""

import itertools
import resource
import selectors
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Final
from urllib.parse import urlsplit

import httpx
import psutil

from infra.bench.report import Measure
from infra.local.stack import Stack
from shared.kernel import cache, clock, ids, sessions, tokens
from shared.live.publish import channel
from tests.client import wait_until

SOCKETS: Final = 500
IDLE_SOCKETS: Final = 20_000
# Files that the service, or the bench, may have open beside the sockets.
OTHER_FILES: Final = 200
# One round of pings, and some in which it is said who is here.
IDLE_SECONDS: Final = 26.0
ADDRESSES: Final = 8
PING: Final = b"\x89\x00"
CLOSE: Final = 0x88
PONG: Final = b"\x8a\x80" + bytes(4)
EVENT_BYTES: Final = 300
BURST: Final = 200
SECONDS: Final = 3.0
# The budgets of DESIGN.
ONE_AT_A_TIME: Final = 100_000
IN_BURSTS: Final = 600_000
IDLE_KIB: Final = 25
# Ours: about a half of what it does, and five times what it takes.
TAKEN_IN: Final = 500
IDLE_PERCENT: Final = 10
GONE_SECONDS: Final = 60


class Crowd:
    """Sockets, each with its token, read by a thread that counts the bytes."""

    def __init__(self, live: str, tokens: Sequence[str]):
        self.received = 0
        self._ended = False
        self._fault = ""
        self._more = threading.Condition()
        self._selector = selectors.DefaultSelector()
        # From several addresses: the ports of one might not be enough.
        hosts = itertools.cycle(f"127.0.0.{n + 2}" for n in range(ADDRESSES))
        self.sockets: list[socket.socket] = []
        # From the first on: who answers no ping while the others come is closed.
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        for token, host in zip(tokens, hosts, strict=False):
            self.sockets.append(_connect(live, token, host))
            self._selector.register(self.sockets[-1], selectors.EVENT_READ)

    def _read(self) -> None:
        while not self._ended:
            for key, _ in self._selector.select(0.1):
                data = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
                if not data or data[0] == CLOSE:
                    # Told to who made the crowd: an exception here would end this thread alone.
                    self._fault = f"the live service closed a socket of the bench: {data[4:].decode(errors='replace')}"
                    with self._more:
                        self._more.notify()
                    return
                if data.startswith(PING):
                    key.fileobj.send(PONG)  # type: ignore[union-attr]
                with self._more:
                    self.received += len(data)
                    self._more.notify()

    def check(self) -> None:
        """Raise ConnectionError if one of them was closed."""
        if self._fault:
            raise ConnectionError(self._fault)

    def wait_for(self, size: int) -> None:
        """Wait until `size` bytes have come. Raises ConnectionError, TimeoutError after 15 s."""
        with self._more:
            if not self._more.wait_for(lambda: self.received >= size or self._fault, 15):
                raise TimeoutError(f"{self.received} of {size} bytes have come")
        self.check()

    def close(self) -> None:
        """Hang up."""
        self._ended = True
        self._thread.join()
        for one in self.sockets:
            one.close()


def _connect(live: str, token: str, host: str) -> socket.socket:
    url = urlsplit(live)
    made = socket.create_connection((url.hostname or "127.0.0.1", url.port or 80), 15, (host, 0))
    made.sendall(
        f"GET {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Protocol: i9lyfe.v1.json\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += made.recv(1)
    if b" 101 " not in head.splitlines()[0]:
        raise ConnectionError(head.splitlines()[0].decode())
    # A ping is answered once the service has taken the socket in: masked, with a mask of zeros.
    ping = b'{"id":1,"action":"ping"}'
    made.sendall(bytes((0x81, 0x80 | len(ping))) + bytes(4) + ping)
    reply = b""
    while len(reply) < 2 or len(reply) < 2 + reply[1]:
        reply += made.recv(256)
    if reply[0] == CLOSE:
        raise ConnectionError(f"the live service turned a socket of the bench away: {reply[4:].decode()}")
    return made


def _event(seq: int) -> bytes:
    head = b'{"event":"bench","seq":%d,"at":%d,"data":"' % (seq, clock.now_ms())
    return head + b"x" * (EVENT_BYTES - len(head) - 2) + b'"}'


def measure(stack: Stack) -> list[Measure]:
    """Measure the stack's live service, by its own CPU, over the Redis of settings. Raises OSError when it hangs up."""
    process = psutil.Process(stack.reread().pids["live"])
    user_id, session_id = ids.new_id(), ids.new_id()
    cache.run_sync(sessions.started(session_id))
    token, _ = tokens.issue_access(user_id, session_id)
    try:
        # First, while none of its memory is that of sockets which have gone.
        many = _many(stack.live, session_id, process)
        with closing(Crowd(stack.live, [token] * SOCKETS)) as crowd:
            one, burst = (_rate(crowd, process, user_id, together) for together in (1, BURST))
    finally:
        cache.run_sync(sessions.ended(session_id))
    unit = "/s per core"
    return [
        Measure("deliveries, one at a time", one, unit, ONE_AT_A_TIME, detail=f"to {SOCKETS} sockets"),
        Measure(f"deliveries, bursts of {BURST}", burst, unit, IN_BURSTS, detail=f"to {SOCKETS} sockets"),
        *many,
    ]


def _many(live: str, session_id: int, process: psutil.Process) -> list[Measure]:
    """What as many sockets cost as an instance is to hold, each of another user, while they come in and while idle."""
    count = min(IDLE_SOCKETS, _may_open(process))
    owners = [tokens.issue_access(ids.new_id(), session_id)[0] for _ in range(count)]
    before, cpu = process.memory_info().rss, _cpu(process)
    with closing(Crowd(live, owners)) as crowd:
        cpu = _cpu(process) - cpu
        each = (process.memory_info().rss - before) / count / 1024
        idle_cpu, began = _cpu(process), time.monotonic()
        time.sleep(IDLE_SECONDS)
        busy = 100 * (_cpu(process) - idle_cpu) / (time.monotonic() - began)
        crowd.check()
    # Their leaving is work too, and not of what is measured next.
    wait_until(lambda: not _sockets_of(live) and _rests(process), GONE_SECONDS)
    of = f"of {count:,} users" + ("" if count == IDLE_SOCKETS else ": no more files may be open here")
    return [
        Measure("sockets taken in", count / cpu, "/s per core", TAKEN_IN, detail=f"{of}, one after another"),
        Measure("memory an idle socket", each, "KiB", IDLE_KIB, at_most=True, detail=of),
        Measure("CPU of idle sockets", busy, "% of a core", IDLE_PERCENT, at_most=True, detail=of),
    ]


def _sockets_of(live: str) -> int:
    """How many sockets the service has."""
    health = urlsplit(live)._replace(scheme="http", path="/healthz").geturl()
    return int(httpx.get(health, trust_env=False).json()["sockets"])


def _may_open(process: psutil.Process) -> int:
    """How many more files both the service and this process may open, their limits raised as far as may be."""
    more: list[int] = []
    for one in (psutil.Process(), process):
        _, hard = resource.prlimit(one.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(one.pid, resource.RLIMIT_NOFILE, (hard, hard))
        more.append(hard - one.num_fds() - OTHER_FILES)
    return min(more)


def _rests(process: psutil.Process) -> bool:
    cpu = _cpu(process)
    time.sleep(1)
    return _cpu(process) - cpu < 0.1


def _cpu(process: psutil.Process) -> float:
    return sum(process.cpu_times()[:2])


def _rate(crowd: Crowd, process: psutil.Process, user_id: int, together: int) -> float:
    frame = EVENT_BYTES + 4
    expected, sent = crowd.received, 0
    cpu = _cpu(process)
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        start = time.time_ns() // 1000
        cache.run_sync(*[("PUBLISH", channel(user_id), _event(start + i)) for i in range(together)])
        sent += together
        expected += together * SOCKETS * frame
        # The next is sent when all have this: what is measured is not how far the service falls behind.
        crowd.wait_for(expected)
    return sent * SOCKETS / (_cpu(process) - cpu)
