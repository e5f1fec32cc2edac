"""What goes over the wire (RFC 6455): what breaks the protocol ends its own socket, with the right code.

These go through the service as it is; Autobahn's cases, which want all they send given back, are in test_autobahn.py.
"""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from websockets.frames import Frame, Opcode

from infra.local.stack import Stack
from realtime_service.intake import MAX_READ
from realtime_service.wire import MAX_FRAME
from tests.client import Person

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
PING_REQUEST = b'{"id":1,"action":"ping"}'


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, reserved: int = 0, masked: bool = True) -> bytes:
    """A frame as a client sends it, or should not."""
    head = bytes(((0x80 if fin else 0) | reserved << 4 | opcode,))
    mask_bit = 0x80 if masked else 0
    if len(payload) < 126:
        head += bytes((mask_bit | len(payload),))
    elif len(payload) < 1 << 16:
        head += bytes((mask_bit | 126,)) + len(payload).to_bytes(2, "big")
    else:
        head += bytes((mask_bit | 127,)) + len(payload).to_bytes(8, "big")
    if not masked:
        return head + payload
    mask = b"\x12\x34\x56\x78"
    repeated = (mask * (len(payload) // 4 + 1))[: len(payload)]
    hidden = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return head + mask + hidden.to_bytes(len(payload), "big")


def request_of(size: int) -> bytes:
    """A request of just so many bytes; what is wrong with it can be replied to."""
    empty = b'{"id":1,"action":"ping","data":{"x":""}}'
    return empty[:-3] + b"x" * (size - len(empty)) + empty[-3:]


def in_frames_of(most: int, payload: bytes) -> bytes:
    """A message in fragments, the last one of what is left."""
    parts = [payload[at : at + most] for at in range(0, len(payload), most)]
    opcodes = [TEXT, *[CONTINUATION] * (len(parts) - 1)]
    return b"".join(frame(opcode, part, fin=part is parts[-1]) for opcode, part in zip(opcodes, parts, strict=True))


class Raw:
    """A socket below the protocol."""

    def __init__(self, made: socket.socket):
        self.socket = made

    def send(self, *data: bytes) -> None:
        for piece in data:
            self.socket.sendall(piece)

    def _exactly(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            more = self.socket.recv(size - len(found))
            assert more, "it hung up without a close frame"
            found += more
        return found

    def receive(self) -> tuple[int, bytes]:
        """The opcode and payload of the next frame."""
        first, size = self._exactly(2)
        assert not size & 0x80, "a server's frames are not masked"
        if size >= 126:
            size = int.from_bytes(self._exactly(2 if size == 126 else 8), "big")
        return first & 0xF, self._exactly(size)

    def reply(self) -> dict[str, object]:
        opcode, payload = self.receive()
        assert opcode == TEXT, (opcode, payload)
        return json.loads(payload)

    def close_code(self) -> int:
        """The code it is closed with; what comes before is passed over."""
        while True:
            opcode, payload = self.receive()
            if opcode == CLOSE:
                return int.from_bytes(payload[:2], "big")


def head_of(stack: Stack, person: Person, **changed: str | None) -> bytes:
    """An upgrade's head, with these fields changed, or left out."""
    url = urlsplit(stack.live)
    fields: dict[str, str | None] = {
        "Host": url.netloc,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": "i9lyfe.v1.json",
        "Authorization": f"Bearer {person.session['access_token']}",
    }
    fields |= {name.replace("_", "-"): value for name, value in changed.items()}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([f"GET {url.path} HTTP/1.1", *lines, "", ""]).encode()


@contextmanager
def upgraded(stack: Stack, head: bytes) -> Iterator[tuple[str, Raw]]:
    """The head of the answer to an upgrade, and the socket."""
    url = urlsplit(stack.live)
    with socket.create_connection((url.hostname or "", url.port or 0), timeout=30) as made:
        made.sendall(head)
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            more = made.recv(1)
            assert more, answer
            answer += more
        yield answer.decode(), Raw(made)


@contextmanager
def opened(stack: Stack, person: Person) -> Iterator[Raw]:
    with upgraded(stack, head_of(stack, person)) as (answer, raw):
        assert answer.startswith("HTTP/1.1 101 ")
        yield raw


def test_the_frames_built_here_are_those_of_a_library() -> None:
    for opcode, payload in ((TEXT, PING_REQUEST), (BINARY, b"x" * 200), (TEXT, b"x" * 70_000), (PING, b"")):
        theirs = Frame(Opcode(opcode), payload).serialize(mask=False)
        assert frame(opcode, payload, masked=False) == theirs
        ours = frame(opcode, payload)
        size = len(theirs) - len(payload)
        assert (ours[0], ours[1]) == (theirs[0], theirs[1] | 0x80)
        assert bytes(b ^ b"\x12\x34\x56\x78"[i % 4] for i, b in enumerate(ours[size + 4 :])) == payload


BROKEN = {
    "unmasked": (1002, frame(TEXT, PING_REQUEST, masked=False)),
    "reserved bit 1, as of a compressed one": (1002, frame(TEXT, PING_REQUEST, reserved=4)),
    "reserved bit 2": (1002, frame(TEXT, PING_REQUEST, reserved=2)),
    "reserved bit 3 on a ping": (1002, frame(PING, reserved=1)),
    **{f"reserved opcode {code:#x}": (1002, frame(code)) for code in (*range(3, 8), *range(0xB, 0x10))},
    "a control frame too long": (1002, frame(PING, b"x" * 126)),
    "a control frame in fragments": (1002, frame(PING, b"x", fin=False)),
    "a close of one byte": (1002, frame(CLOSE, b"\x03")),
    "a close whose reason is not UTF-8": (1007, frame(CLOSE, b"\x03\xe8\xff")),
    "a continuation of nothing": (1002, frame(CONTINUATION, PING_REQUEST)),
    "a continuation of a whole one": (1002, frame(TEXT, PING_REQUEST) + frame(CONTINUATION, b"x")),
    "a new one within one in fragments": (1002, frame(TEXT, b"{", fin=False) + frame(TEXT, PING_REQUEST)),
    "not UTF-8": (1007, frame(TEXT, b'{"id":"\xff","action":"ping"}')),
    "a surrogate": (1007, frame(TEXT, b'{"id":"\xed\xa0\x80","action":"ping"}')),
    "not UTF-8 where its fragments meet": (1007, frame(TEXT, b'{"id":"\xe2', fin=False) + frame(CONTINUATION, b'("}')),
    "binary for text": (4400, frame(BINARY, PING_REQUEST)),
    **{
        f"{size} bytes, over the limit, in frames of {most}": (4413, in_frames_of(most, request_of(size)))
        for size in (MAX_FRAME + 1, MAX_READ - 100, MAX_READ, MAX_READ + 1, 3 * MAX_READ)
        for most in (size, size - 1, MAX_READ, MAX_FRAME, MAX_FRAME - 1)
    },
    "a frame of a TiB, whose beginning comes": (
        4413,
        b"\x81\xff" + (1 << 40).to_bytes(8, "big") + bytes(4) + b"x" * 2 * MAX_READ,
    ),
    "a length of 64 bits with the first set": (1002, b"\x81\xff" + (1 << 63).to_bytes(8, "big") + bytes(4)),
    "a length in more bytes than it needs": (1002, b"\x81\xfe\x00\x05" + bytes(9)),
    **{
        f"the close code {code}": (1002, frame(CLOSE, code.to_bytes(2, "big")))
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    },
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_breaks_the_protocol_closes_its_socket_and_no_other(stack: Stack, alice: Person, case: str) -> None:
    code, sent = BROKEN[case]
    with opened(stack, alice) as other, opened(stack, alice) as raw:
        raw.send(sent)
        assert raw.close_code() == code
        other.send(frame(TEXT, PING_REQUEST))
        assert other.reply()["ok"] is True


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1011, 1013, 3000, 4999])
def test_a_close_is_answered_with_its_own_code(stack: Stack, alice: Person, code: int) -> None:
    with opened(stack, alice) as raw:
        raw.send(frame(CLOSE, code.to_bytes(2, "big") + "zum Schluß".encode()))
        assert raw.close_code() == code
        assert raw.socket.recv(1) == b""


def test_a_close_without_a_code_is_answered_with_1000(stack: Stack, alice: Person) -> None:
    with opened(stack, alice) as raw:
        raw.send(frame(CLOSE))
        assert raw.close_code() == 1000


def test_whatever_way_its_bytes_come_a_request_is_answered(stack: Stack, alice: Person) -> None:
    whole = frame(TEXT, PING_REQUEST)
    with opened(stack, alice) as raw:
        for at in range(len(whole)):  # byte by byte
            raw.send(whole[at : at + 1])
            time.sleep(0.001)
        assert raw.reply()["ok"] is True
        raw.send(whole * 10)  # many in one segment
        assert [raw.reply()["ok"] for _ in range(10)] == [True] * 10
        # In fragments, one of them empty, with pings between: those are answered at once, the request when it is whole.
        raw.send(frame(TEXT, PING_REQUEST[:5], fin=False) + frame(PING, b"a"))
        raw.send(frame(CONTINUATION, fin=False) + frame(PONG, b"unasked") + frame(PING, b"b" * 125))
        assert [raw.receive(), raw.receive()] == [(PONG, b"a"), (PONG, b"b" * 125)]
        raw.send(frame(CONTINUATION, PING_REQUEST[5:]))
        assert raw.reply()["ok"] is True


@pytest.mark.parametrize("most", [MAX_FRAME, MAX_FRAME - 1, MAX_FRAME // 8])
def test_a_message_of_just_the_limit_is_taken(stack: Stack, alice: Person, most: int) -> None:
    with opened(stack, alice) as raw:
        raw.send(in_frames_of(most, request_of(MAX_FRAME)))
        assert raw.reply()["ok"] is False  # its field is unknown, and it is told so
        raw.send(frame(TEXT, PING_REQUEST))
        assert raw.reply()["ok"] is True


def test_compression_is_declined_and_lists_in_connection_are_read(stack: Stack, alice: Person) -> None:
    head = head_of(stack, alice, Sec_WebSocket_Extensions="permessage-deflate", Connection="keep-alive, Upgrade")
    with upgraded(stack, head) as (answer, raw):
        assert answer.startswith("HTTP/1.1 101 ")
        assert "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer  # RFC 6455's own example
        assert "extensions" not in answer.lower()
        raw.send(frame(TEXT, PING_REQUEST))
        assert raw.reply()["ok"] is True


@pytest.mark.parametrize(
    ("status", "changed"),
    [
        (426, {"Sec_WebSocket_Version": "12"}),
        (426, {"Sec_WebSocket_Version": "8"}),
        (426, {"Sec_WebSocket_Version": None}),
        (400, {"Sec_WebSocket_Key": None}),
        (400, {"Sec_WebSocket_Key": "short"}),
        (400, {"Sec_WebSocket_Protocol": None}),
        (400, {"Upgrade": "h2c"}),
        (400, {"Connection": "keep-alive"}),
        (403, {"Authorization": None, "Cookie": "session=x", "Origin": "https://elsewhere.example"}),
    ],
)
def test_an_upgrade_with_a_fault_is_refused(
    stack: Stack, alice: Person, status: int, changed: dict[str, str | None]
) -> None:
    with upgraded(stack, head_of(stack, alice, **changed)) as (answer, _):
        assert answer.startswith(f"HTTP/1.1 {status} ")
        assert ("Sec-WebSocket-Version: 13" in answer) == (status == 426)


def test_another_method_is_refused(stack: Stack, alice: Person) -> None:
    with upgraded(stack, head_of(stack, alice).replace(b"GET", b"POST", 1)) as (answer, _):
        assert answer.startswith("HTTP/1.1 400 ")
