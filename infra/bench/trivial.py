"""The yardstick: a function that does nothing, under the same framework as everything else."""

from typing import Any


async def trivial(request: Any) -> str:
    """Answer at once."""
    return "ok"
