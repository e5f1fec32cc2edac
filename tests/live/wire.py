"""A wire to a server: it can be cut, lead to another server, lose an answer, repeat what it carries, or be slow."""

import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

RESET = struct.pack("ii", 1, 0)
DATA_FRAMES = (0x81, 0x82)  # text and binary, each whole


class Wire:
    """Carries TCP from a port of its own to `target`, whatever is asked of it meanwhile."""

    def __init__(self, target: str):
        self.target = target
        self.is_dead = False
        # Whether each frame of a WebSocket comes twice, and how much later than it was sent the client's first does.
        self.repeats = False
        self.delay = 0.0
        # What is answered to those who ask next, in the server's place; and how many of its answers get lost.
        self.instead: deque[bytes] = deque()
        self.losing = 0
        # How many have connected.
        self.carried = 0
        self._ends: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """The target's URL, by this wire."""
        return urlsplit(self.target)._replace(netloc=f"127.0.0.1:{self._listener.getsockname()[1]}").geturl()

    def cut(self) -> None:
        """Cut it for all who are connected: neither of the two ends hears why."""
        for end in list(self._ends):
            self._reset(end)

    def close(self) -> None:
        """Have it carry nothing more."""
        self._listener.close()
        self.cut()

    @contextmanager
    def dead(self) -> Iterator[None]:
        """Cut, and nobody gets through meanwhile."""
        self.is_dead = True
        self.cut()
        yield
        self.is_dead = False

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._ends.add(near)
                self.carried += 1
                if self.is_dead:
                    self._reset(near)
                    continue
                there = urlsplit(self.target)
                try:
                    far = socket.create_connection((there.hostname or "", there.port or 0), timeout=5)
                except OSError:
                    self._reset(near)
                    continue
                far.settimeout(None)
                self._ends.add(far)
                for carry in (self._carry_up, self._carry_down):
                    threading.Thread(target=carry, args=(near, far), daemon=True).start()

    def _carry_up(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            first = True
            while data := near.recv(1 << 16):
                if self.instead:
                    near.sendall(self.instead.popleft())
                    continue
                if not first:
                    time.sleep(self.delay)
                first = False
                far.sendall(data)
            far.shutdown(socket.SHUT_WR)
            return
        self._reset(far)

    def _carry_down(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            head, data = b"", b""
            while more := far.recv(1 << 16):
                if self.losing:
                    self.losing -= 1
                    break
                if not self.repeats:
                    near.sendall(more)
                    continue
                data += more
                if not head and b"\r\n\r\n" in data:
                    head, _, data = data.partition(b"\r\n\r\n")
                    near.sendall(head + b"\r\n\r\n")
                while head and (size := _first_frame(data)):
                    near.sendall(data[:size] * (2 if data[0] in DATA_FRAMES else 1))
                    data = data[size:]
            else:
                near.shutdown(socket.SHUT_WR)
                return
        self._reset(near)

    def _reset(self, end: socket.socket) -> None:
        self._ends.discard(end)
        with suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            end.shutdown(socket.SHUT_RDWR)  # whoever reads from it wakes up
        end.close()


def _first_frame(data: bytes) -> int:
    """The size of the frame that these begin with, as a server sends it; 0 while it isn't whole (RFC 6455, 5.2)."""
    if len(data) < 2:
        return 0
    extended = {126: 2, 127: 8}.get(data[1], 0)
    if len(data) < 2 + extended:
        return 0
    size = int.from_bytes(data[2 : 2 + extended], "big") if extended else data[1]
    return 2 + extended + size if len(data) >= 2 + extended + size else 0


@contextmanager
def wire_to(url: str) -> Iterator[Wire]:
    """A wire, while the block runs."""
    wire = Wire(url)
    try:
        yield wire
    finally:
        wire.close()
