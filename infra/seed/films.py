"""Generated films: the same seed gives the same one. Real WebM that browsers play, with no encoder of video installed.

A lossy WebP is one VP8 key frame (RFC 9649, 2.5), and WebM is VP8 in Matroska (RFC 8794, RFC 9559).
"""

import io
import random
import struct
from dataclasses import dataclass

from PIL import Image, ImageDraw

from infra.photos import make_photo

SIZES = {
    "video:portrait": (240, 300),
    "video:square": (240, 240),
    "video:landscape": (300, 200),
    "reel": (180, 320),
}
FRAMES = 8
FRAME_MS = 125
_SHAPES = {"video:portrait": "photo:portrait", "video:landscape": "photo:landscape"}


@dataclass(frozen=True)
class Film:
    """A WebM, a blurred still of it, and its size in pixels."""

    actual: bytes
    placeholder: bytes
    width: int
    height: int


def make_film(seed: int, type: str) -> Film:
    """A film for a post of `type`: a ball that crosses a picture."""
    photo = make_photo(seed, _SHAPES.get(type, "photo:square"))
    width, height = SIZES[type]
    scene = Image.open(io.BytesIO(photo.actual)).resize((width, height))
    dice = random.Random(seed)
    start, end = (dice.randint(0, height) for _ in range(2))
    frames: list[bytes] = []
    for number in range(FRAMES):
        along = number / (FRAMES - 1)
        x, y, r = round(width * along), round(start + (end - start) * along), width // 8
        frame = scene.copy()
        ImageDraw.Draw(frame).ellipse((x - r, y - r, x + r, y + r), fill=(250, 240, 90))
        frames.append(_key_frame(frame))
    return Film(_webm(frames, width, height), photo.placeholder, width, height)


def _key_frame(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "WEBP", quality=60, method=0)
    data = out.getvalue()
    assert data[12:16] == b"VP8 ", "a lossy WebP without transparency is a single VP8 chunk"
    (size,) = struct.unpack("<I", data[16:20])
    return data[20 : 20 + size]


def _webm(frames: list[bytes], width: int, height: int) -> bytes:
    head = _element(
        0x1A45DFA3,
        _number(0x4286, 1) + _number(0x42F7, 1) + _number(0x42F2, 4) + _number(0x42F3, 8),
        _element(0x4282, b"webm") + _number(0x4287, 2) + _number(0x4285, 2),
    )
    info = _element(
        0x1549A966,
        _number(0x2AD7B1, 1_000_000) + _element(0x4489, struct.pack(">d", len(frames) * FRAME_MS)),
        _element(0x4D80, b"i9lyfe") + _element(0x5741, b"i9lyfe"),
    )
    video = _element(0xE0, _number(0xB0, width) + _number(0xBA, height))
    track = _number(0xD7, 1) + _number(0x73C5, 1) + _number(0x83, 1) + _element(0x86, b"V_VP8") + video
    # The track's number, the milliseconds into the cluster, and that it is a key frame.
    blocks = [
        _element(0xA3, struct.pack(">BhB", 0x81, number * FRAME_MS, 0x80), frame) for number, frame in enumerate(frames)
    ]
    cluster = _element(0x1F43B675, _number(0xE7, 0), *blocks)
    return head + _element(0x18538067, info, _element(0x1654AE6B, _element(0xAE, track)), cluster)


def _element(id: int, *parts: bytes) -> bytes:
    data = b"".join(parts)
    # Its size in eight bytes, whose first bit says so.
    return id.to_bytes((id.bit_length() + 7) // 8, "big") + (len(data) | 1 << 56).to_bytes(8, "big") + data


def _number(id: int, value: int) -> bytes:
    return _element(id, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))
