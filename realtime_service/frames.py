"""Frames: an event is built once a codec, whatever the number of sockets it goes to (RFC 6455, 5.2)."""

from typing import Any, Final, Literal

import msgspec

Codec = Literal["json", "msgpack"]
SUBPROTOCOLS: Final[dict[str, Codec]] = {"i9lyfe.v1.json": "json", "i9lyfe.v1.msgpack": "msgpack"}
_FIRST_BYTE: Final[dict[Codec, int]] = {"json": 0x81, "msgpack": 0x82}  # final, text or binary
_encode_msgpack: Final = msgspec.msgpack.Encoder().encode
_encode_json: Final = msgspec.json.Encoder().encode


def frame(payload: bytes, codec: Codec) -> bytes:
    """An unmasked frame with `payload`, as a server sends it."""
    size = len(payload)
    first = _FIRST_BYTE[codec]
    if size < 126:
        return bytes((first, size)) + payload
    if size < 1 << 16:
        return bytes((first, 126)) + size.to_bytes(2, "big") + payload
    return bytes((first, 127)) + size.to_bytes(8, "big") + payload


def encode(value: Any, codec: Codec) -> bytes:
    """A frame with a message of ours."""
    return frame(_encode_json(value) if codec == "json" else _encode_msgpack(value), codec)


class Event:
    """An event as it came, JSON, with its frames made when first needed. `seq` is None for what is not kept."""

    __slots__ = ("_frames", "json", "seq")

    def __init__(self, json: bytes, seq: int | None):
        self.json = json
        self.seq = seq
        self._frames: dict[Codec, bytes] = {}

    def frame(self, codec: Codec) -> bytes:
        """The event's frame in `codec`."""
        found = self._frames.get(codec)
        if found is None:
            payload = self.json if codec == "json" else _encode_msgpack(msgspec.json.decode(self.json))
            found = self._frames[codec] = frame(payload, codec)
        return found
