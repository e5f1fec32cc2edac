"""The load generator, a process of its own: `python -m infra.bench.load` with a Load on stdin and a Tally on stdout.

So many connections, each kept alive, one request at a time on each, no pipelining. Sockets and a selector rather than
asyncio: it must cost far less than what it measures, on the same two cores.
"""

import selectors
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from itertools import cycle

import msgspec

CONNECTIONS = 32
GRACE_SECONDS = 10.0


class Load(msgspec.Struct):
    """What to send where: `requests` in turn for `seconds`, or each of them once."""

    host: str
    port: int
    requests: list[bytes]
    seconds: float = 2.0
    once: bool = False


class Tally(msgspec.Struct):
    """What came of it. `p50` and `p99` in milliseconds."""

    per_second: float
    requests: int
    p50: float
    p99: float
    statuses: dict[int, int]


def request(method: str, path: str, token: str | None = None, body: bytes | None = None) -> bytes:
    """The bytes of a request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: bench"]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def apply(port: int, requests: Sequence[bytes], *, seconds: float = 2.0, once: bool = False) -> Tally:
    """Load the server on a port of this machine from a process of its own. Raises CalledProcessError."""
    load = Load("127.0.0.1", port, list(requests), seconds, once)
    command = [sys.executable, "-m", "infra.bench.load"]
    done = subprocess.run(command, input=msgspec.msgpack.encode(load), stdout=subprocess.PIPE, check=True)
    return msgspec.msgpack.decode(done.stdout, type=Tally)


class _Connection:
    """A socket with one request under way."""

    __slots__ = ("buffer", "sent_at", "socket")

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port), timeout=GRACE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.sent_at = 0.0

    def send(self, data: bytes) -> None:
        self.sent_at = time.perf_counter()
        self.socket.sendall(data)

    def receive(self) -> int | None:
        """The status, once the whole answer is there. Raises ConnectionError when the server hangs up."""
        data = self.socket.recv(262_144)
        if not data:
            raise ConnectionError("the server hung up")
        self.buffer = data = self.buffer + data if self.buffer else data
        head = data.find(b"\r\n\r\n")
        if head < 0:
            return None
        at = data.find(b"content-length: ")
        length = int(data[at + 16 : data.index(b"\r", at)]) if 0 <= at < head else 0
        if len(data) < head + 4 + length:
            return None
        self.buffer = b""
        return int(data[9:12])


def run(load: Load) -> Tally:
    """Send it all, and count. Raises TimeoutError when the server no longer answers."""
    waiting = iter(load.requests) if load.once else cycle(load.requests)
    latencies: list[float] = []
    statuses: Counter[int] = Counter()
    with selectors.DefaultSelector() as selector:
        busy = 0
        began = time.perf_counter()
        for _, first in zip(range(CONNECTIONS), waiting, strict=False):
            connection = _Connection(load.host, load.port)
            selector.register(connection.socket, selectors.EVENT_READ, connection)
            connection.send(first)
            busy += 1
        ends = time.perf_counter() + load.seconds
        while busy:
            ready = selector.select(GRACE_SECONDS)
            if not ready:
                raise TimeoutError(f"no answer within {GRACE_SECONDS} s")
            for key, _ in ready:
                connection = key.data
                status = connection.receive()
                if status is None:
                    continue
                now = time.perf_counter()
                latencies.append(now - connection.sent_at)
                statuses[status] += 1
                following = next(waiting, None) if load.once or now < ends else None
                if following is None:
                    selector.unregister(connection.socket)
                    connection.socket.close()
                    busy -= 1
                else:
                    connection.send(following)
    took = time.perf_counter() - began
    latencies.sort()
    return Tally(
        per_second=len(latencies) / took,
        requests=len(latencies),
        p50=latencies[len(latencies) // 2] * 1000,
        p99=latencies[len(latencies) * 99 // 100] * 1000,
        statuses=dict(statuses),
    )


if __name__ == "__main__":
    wanted = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Load)
    sys.stdout.buffer.write(msgspec.msgpack.encode(run(wanted)))
