"""Time, in one place so that tests can hold it still."""

import time


def now_ms() -> int:
    """Now, in milliseconds since the epoch, UTC."""
    return time.time_ns() // 1_000_000
