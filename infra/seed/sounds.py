"""Generated sounds: the same seed gives the same one. WAV, which everything plays."""

import io
import math
import random
import struct
import wave
from dataclasses import dataclass

RATE = 8000
NOTE_MS = 150
SCALE = (262, 294, 330, 392, 440, 523)


@dataclass(frozen=True)
class Sound:
    """A WAV, and how long it is."""

    actual: bytes
    duration_ms: int


def make_sound(seed: int) -> Sound:
    """A few notes."""
    dice = random.Random(seed)
    notes = [dice.choice(SCALE) for _ in range(dice.randint(3, 8))]
    size = RATE * NOTE_MS // 1000
    samples = [
        round(9000 * math.sin(2 * math.pi * note * place / RATE) * (1 - place / size))
        for note in notes
        for place in range(size)
    ]
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples))
    return Sound(out.getvalue(), NOTE_MS * len(notes))
