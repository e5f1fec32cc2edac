"""The live service: deliveries a second of its CPU to many sockets, sockets taken in, and the memory of an idle one."""

import selectors
import socket
import threading
import time
from contextlib import closing
from typing import Final
from urllib.parse import urlsplit

import psutil

from infra.bench.report import Measure
from infra.local.stack import Stack
from shared.kernel import cache, clock, ids, sessions, tokens
from shared.live.publish import channel

SOCKETS: Final = 500
IDLE_SOCKETS: Final = 2000
EVENT_BYTES: Final = 300
BURST: Final = 200
SECONDS: Final = 3.0
# The budgets of DESIGN.
ONE_AT_A_TIME: Final = 100_000
IN_BURSTS: Final = 600_000
IDLE_KIB: Final = 25


class Crowd:
    """Sockets of one user, read by a thread that counts the bytes."""

    def __init__(self, live: str, token: str, size: int):
        self.received = 0
        self._ended = False
        self._more = threading.Condition()
        self._selector = selectors.DefaultSelector()
        self.sockets = [_connect(live, token) for _ in range(size)]
        for one in self.sockets:
            self._selector.register(one, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._ended:
            for key, _ in self._selector.select(0.1):
                data = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
                if not data:
                    raise ConnectionError("the live service closed a socket of the bench")
                with self._more:
                    self.received += len(data)
                    self._more.notify()

    def wait_for(self, size: int) -> None:
        """Wait until `size` bytes have come. Raises TimeoutError after 15 s."""
        with self._more:
            if not self._more.wait_for(lambda: self.received >= size, 15):
                raise TimeoutError(f"{self.received} of {size} bytes have come")

    def close(self) -> None:
        """Hang up."""
        self._ended = True
        self._thread.join()
        for one in self.sockets:
            one.close()


def _connect(live: str, token: str) -> socket.socket:
    url = urlsplit(live)
    made = socket.create_connection((url.hostname or "127.0.0.1", url.port or 80), timeout=15)
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
    size = made.recv(2)[1]
    while size:
        size -= len(made.recv(size))
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
        connected, idle = _taking_in(stack.live, token, process)
        with closing(Crowd(stack.live, token, SOCKETS)) as crowd:
            one, burst = (_rate(crowd, process, user_id, together) for together in (1, BURST))
    finally:
        cache.run_sync(sessions.ended(session_id))
    unit = "/s per core"
    return [
        Measure("deliveries, one at a time", one, unit, ONE_AT_A_TIME, detail=f"to {SOCKETS} sockets"),
        Measure(f"deliveries, bursts of {BURST}", burst, unit, IN_BURSTS, detail=f"to {SOCKETS} sockets"),
        Measure("sockets taken in", connected, unit, detail=f"{IDLE_SOCKETS:,}, one after another"),
        Measure("memory an idle socket", idle, "KiB", IDLE_KIB, at_most=True, detail=f"of {IDLE_SOCKETS:,}"),
    ]


def _taking_in(live: str, token: str, process: psutil.Process) -> tuple[float, float]:
    """How many sockets it takes in a second of its CPU, and the KiB of one that idles."""
    before, cpu = process.memory_info().rss, -sum(process.cpu_times()[:2])
    with closing(Crowd(live, token, IDLE_SOCKETS)):
        cpu += sum(process.cpu_times()[:2])
        return IDLE_SOCKETS / cpu, (process.memory_info().rss - before) / IDLE_SOCKETS / 1024


def _rate(crowd: Crowd, process: psutil.Process, user_id: int, together: int) -> float:
    frame = EVENT_BYTES + 4
    expected, sent = crowd.received, 0
    cpu = -sum(process.cpu_times()[:2])
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        start = time.time_ns() // 1000
        cache.run_sync(*[("PUBLISH", channel(user_id), _event(start + i)) for i in range(together)])
        sent += together
        expected += together * SOCKETS * frame
        # The next is sent when all have this: what is measured is not how far the service falls behind.
        crowd.wait_for(expected)
    return sent * SOCKETS / (cpu + sum(process.cpu_times()[:2]))
