"""Generated photos: the same seed gives the same picture. Gradients and shapes, so that they compress like photos."""

import colorsys
import io
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFilter

SIZES = {"photo:portrait": (480, 600), "photo:square": (480, 480), "photo:landscape": (600, 400)}
PLACEHOLDER_WIDTH = 96
PICTURE_SIZES = {"small": 64, "medium": 160, "large": 480}


@dataclass(frozen=True)
class Photo:
    """A JPEG, its blurred placeholder, and its size in pixels."""

    actual: bytes
    placeholder: bytes
    width: int
    height: int


def make_photo(seed: int, type: str = "photo:square") -> Photo:
    """A picture for a post of `type`."""
    dice = random.Random(seed)
    width, height = SIZES[type]
    image = _gradient(dice, width, height)
    draw = ImageDraw.Draw(image, "RGBA")
    for _ in range(dice.randint(4, 9)):
        x, y, r = dice.randint(0, width), dice.randint(0, height), dice.randint(20, width // 3)
        shape = draw.ellipse if dice.random() < 0.6 else draw.rectangle
        shape((x - r, y - r, x + r, y + r), fill=(*_colour(dice), dice.randint(60, 200)))
    grain = Image.frombytes("L", (width // 2, height // 2), dice.randbytes(width // 2 * (height // 2)))
    image = Image.blend(image, grain.resize((width, height)).convert("RGB"), 0.06)
    small = image.resize((PLACEHOLDER_WIDTH, PLACEHOLDER_WIDTH * height // width)).filter(ImageFilter.GaussianBlur(3))
    return Photo(_jpeg(image, 80), _jpeg(small, 90), width, height)


def make_picture(seed: int) -> dict[str, bytes]:
    """A profile picture: a JPEG by size."""
    image = Image.open(io.BytesIO(make_photo(seed).actual))
    return {size: _jpeg(image.resize((width, width)), 85) for size, width in PICTURE_SIZES.items()}


def _gradient(dice: random.Random, width: int, height: int) -> Image.Image:
    top, bottom = Image.new("RGB", (width, height), _colour(dice)), Image.new("RGB", (width, height), _colour(dice))
    mask = Image.linear_gradient("L").resize((width, height))
    return Image.composite(bottom, top, mask)


def _colour(dice: random.Random) -> tuple[int, int, int]:
    r, g, b = colorsys.hsv_to_rgb(dice.random(), dice.uniform(0.3, 0.9), dice.uniform(0.4, 1.0))
    return int(r * 255), int(g * 255), int(b * 255)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    # A placeholder of a plain picture may fall below the least size allowed: a comment segment fills it up.
    data = out.getvalue()
    return data if len(data) >= 1024 else data[:2] + b"\xff\xfe\x04\x00" + b" " * 1022 + data[2:]
