"""A device that drops at any byte and comes back with `resume`: it holds the live service to all that this promises."""

import contextlib
import json
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import httpx
import msgpack
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from infra.local.stack import Stack
from shared.kernel import cache, ids
from tests.client import WAIT_SECONDS, Person
from tests.feed.merging import id_of

# With SO_LINGER so, closing resets the connection: what was not read is lost.
RESET = struct.pack("ii", 1, 0)


class Device:
    """A client as the contract has it. It reads only when told to, so that a test decides at what byte it drops.

    It says `resume` first. Until that is answered, something newer may have come before what was missed: it keeps what
    comes apart, takes it all in by `seq` at the answer, and nothing of it should it drop before. After the answer each
    event has to be newer than the one before, and on one socket none may come twice.
    """

    def __init__(self, person: Person, *urls: str, after: int) -> None:
        self.person = person
        self.urls = urls
        self.after = after
        self.seen: list[dict[str, Any]] = []
        # How much of `seen` there was at each `resync`.
        self.resyncs: list[int] = []
        self.unkept: list[dict[str, Any]] = []
        self._socket: socket.socket | None = None
        self._replies: dict[str, Any] = {}

    @property
    def is_here(self) -> bool:
        """Whether it has a socket."""
        return self._socket is not None

    def come(self, instance: int = 0, back: int = 0) -> None:
        """Connect to an instance and say `resume`, from `back` events before the last. Raises OSError."""
        self.drop()
        url = parse_uri(self.urls[instance])
        self._asked = self.seen[-back - 1]["seq"] if 0 < back < len(self.seen) else self.after
        self._apart: list[dict[str, Any]] | None = []
        self._came: set[int] = set()
        self._replies.clear()
        self._protocol = ClientProtocol(url, subprotocols=[Subprotocol(f"i9lyfe.v1.{self.person.format}")])
        request = self._protocol.connect()
        request.headers["Authorization"] = self.person.http.headers["Authorization"]
        self._protocol.send_request(request)
        self._socket = socket.create_connection((url.host, url.port), timeout=WAIT_SECONDS)
        self._write()
        until = time.monotonic() + WAIT_SECONDS
        while self._protocol.state is State.CONNECTING:
            self.hear(until - time.monotonic(), 64)
            if self._protocol.handshake_exc or not self.is_here or time.monotonic() > until:
                self.drop()
                raise ConnectionError(str(self._protocol.handshake_exc or "no answer"))
        self._send("resume", {"after": self._asked})

    def hear(self, seconds: float = WAIT_SECONDS, size: int = 1 << 16) -> int:
        """Take in what comes next, so many bytes at most; how many there were, in time."""
        if self._socket is None:
            return 0
        try:
            self._socket.settimeout(max(0.001, seconds))
            data = self._socket.recv(size)
        except TimeoutError:
            return 0
        except OSError:
            data = b""
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        for frame in self._protocol.events_received():
            if isinstance(frame, Frame) and frame.opcode in (Opcode.TEXT, Opcode.BINARY):
                self._take(
                    json.loads(bytes(frame.data)) if frame.opcode is Opcode.TEXT else msgpack.unpackb(frame.data)
                )
        if data:
            self._write()
        else:
            self.drop()
        return len(data)

    def drop(self, after: int = 0, seconds: float = 0.1) -> None:
        """Reset the connection, having read so many more bytes: half a frame is lost with what follows."""
        until = time.monotonic() + seconds
        while after > 0 and time.monotonic() < until:
            after -= self.hear(until - time.monotonic(), after)
            if self._socket is None:
                return
        if self._socket is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        """End the connection as one should, and read what comes before it has ended."""
        if self._socket is not None and self._protocol.state is State.OPEN:
            self._protocol.send_close(1000)
            self._write()
            until = time.monotonic() + WAIT_SECONDS
            while self.is_here:
                assert time.monotonic() < until
                self.hear(until - time.monotonic())

    def act(self, action: str, data: dict[str, Any] | None = None) -> Any:
        """The answer to a request; the events that come before it are taken in."""
        self._send(action, data or {})
        until = time.monotonic() + WAIT_SECONDS
        while action not in self._replies:
            assert self.is_here, "it was closed"
            assert time.monotonic() < until
            self.hear(until - time.monotonic())
        return self._replies.pop(action)

    def catch_up(self) -> None:
        """Read until all that there was when it was asked has been taken in."""
        assert self.act("ping")["ok"], self._replies
        assert self._apart is None, "resume was not answered first"

    def stay(self, seconds: float, *, instance: int = 0) -> None:
        """Listen a while; come back as often as the connection is lost."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self.is_here:
                self.hear(left)
                continue
            try:
                self.come(instance)
            except OSError:
                time.sleep(0.05)

    def _send(self, action: str, data: dict[str, Any]) -> None:
        message = {"id": action, "action": action, "data": data}
        if self.person.format == "json":
            self._protocol.send_text(json.dumps(message).encode())
        else:
            self._protocol.send_binary(bytes(msgpack.packb(message) or b""))
        self._write()

    def _write(self) -> None:
        assert self._socket is not None
        with contextlib.suppress(OSError):  # what has gone is found out by reading
            for data in self._protocol.data_to_send():
                self._socket.sendall(data)

    def _take(self, message: dict[str, Any]) -> None:
        if message.get("event") == "resync":
            self.resyncs.append(len(self.seen))
        elif message.get("reply_to") == "resume":
            self._answered(message)
        elif "reply_to" in message:
            self._replies[message["reply_to"]] = message
        elif "seq" not in message:
            self.unkept.append(message)
        else:
            assert message["seq"] not in self._came, f"twice on one socket: {message}"
            assert message["seq"] > self._asked, f"sent though it had been seen: {message}"
            self._came.add(message["seq"])
            if self._apart is None:
                self._see(message)
            else:
                self._apart.append(message)

    def _answered(self, reply: dict[str, Any]) -> None:
        assert reply["ok"], reply
        apart, self._apart = self._apart or [], None
        seen = {event["seq"]: event for event in self.seen}
        for event in sorted(apart, key=lambda event: event["seq"]):
            if event["seq"] in seen:
                assert event == seen[event["seq"]], "another event than the first time"
            else:
                self._see(event)
        self.after = max(self.after, reply["data"]["seq"])

    def _see(self, event: dict[str, Any]) -> None:
        assert event["seq"] > self.after, f"after {self.after} there came an older one: {event}"
        self.after = event["seq"]
        self.seen.append(event)


def kept_for(person: Person, after: int = 0) -> list[dict[str, Any]]:
    """What their inbox holds past `after`."""
    (entries,) = cache.run_sync(("XRANGE", f"inbox:{ids.encode(id_of(person))}", f"({after}-0", "+"))
    return [json.loads(entry[1][1]) for entry in entries]


@contextlib.contextmanager
def bad_day(stack: Stack, **chaos: float) -> Iterator[None]:
    """Meanwhile the broker duplicates, reorders, delays or loses acknowledgements, as told."""
    url = f"{stack.env['PUBSUB_HTTP_URL']}/chaos"
    httpx.put(url, json=chaos, trust_env=False).raise_for_status()
    try:
        yield
    finally:
        httpx.put(url, json={}, trust_env=False).raise_for_status()
