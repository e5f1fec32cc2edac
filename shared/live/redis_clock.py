"""Redis's clock, in which seqs and marks count, as this process knows it: never ahead of what it is."""

import math
import time
from typing import Final

from shared.kernel import cache

# A reading is used so long; of those in that time the one that came back fastest.
_KEPT_SECONDS: Final = 5.0
# What clocks that are set right bit by bit may drift apart meanwhile, each: Linux slews by no more.
_DRIFT: Final = 2 * 500e-6


class _Reading:
    """By how much Redis's clock is ahead of `time.monotonic` at least, in µs, and when that was read."""

    ahead = 0
    at = -math.inf


_reading: Final = _Reading()


def read(micros: int) -> None:
    """Take note that Redis has just answered what it has, in µs."""
    now = time.monotonic()
    ahead = micros - math.ceil(now * 1_000_000)
    if ahead >= _reading.ahead or now - _reading.at > _KEPT_SECONDS:
        _reading.ahead, _reading.at = ahead, now


def at(moment: float) -> int:
    """A moment of `time.monotonic` on Redis's clock, not later than it was, in µs. Raises CacheUnavailable."""
    if time.monotonic() - _reading.at > _KEPT_SECONDS:
        ((seconds, micros),) = cache.run_sync(("TIME",))
        read(int(seconds) * 1_000_000 + int(micros))
    unsure = _DRIFT * abs(_reading.at - moment)
    return math.floor((moment - unsure) * 1_000_000) + _reading.ahead
