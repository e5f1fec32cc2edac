"""How long to wait before something is tried again."""

import random
import time
from typing import Final

FIRST_SECONDS: Final = 0.2
LONGEST_SECONDS: Final = 20.0


def backoff(tries: int) -> float:
    """Seconds before the next try, after so many: ever more, and anything up to that, so that not all come at once.

    Source: "Exponential Backoff And Jitter" (AWS Architecture Blog), its full jitter.
    """
    return random.uniform(0, min(LONGEST_SECONDS, FIRST_SECONDS * 2 ** min(tries, 20)))


class Patience:
    """What is left of the time in which one thing is tried again and again."""

    def __init__(self, seconds: float):
        self._until = time.monotonic() + seconds
        self._tries = 0

    def lasts(self, told: float | None = None) -> bool:
        """Wait for the next try, as long as one was told to; False at once if that is past the time."""
        wait = backoff(self._tries) if told is None else told
        self._tries += 1
        if time.monotonic() + wait > self._until:
            return False
        time.sleep(wait)
        return True
