"""What a target's imports cost over the framework's own: milliseconds and MiB, each in a fresh process."""

import subprocess
import sys

import msgspec

ROUNDS = 2

# The framework with what it serves by is there in any case; what comes on top of that is the target's.
_PROBE = """
import json, sys, time
import functions_framework.aio, uvicorn, uvicorn.protocols.http.auto
import psutil
me = psutil.Process()
rss, began = me.memory_info().rss, time.perf_counter()
import main
getattr(main, sys.argv[1])
took = time.perf_counter() - began
print(json.dumps({"ms": took * 1000, "mib": (me.memory_info().rss - rss) / 2**20}))
"""


class Cost(msgspec.Struct, frozen=True):
    """The cost of one target."""

    ms: float
    mib: float


def cost(target: str) -> Cost:
    """The least of some rounds: files are cached then, and nothing else was running. Raises CalledProcessError."""
    found = [_once(target) for _ in range(ROUNDS)]
    return Cost(min(one.ms for one in found), min(one.mib for one in found))


def _once(target: str) -> Cost:
    done = subprocess.run([sys.executable, "-c", _PROBE, target], stdout=subprocess.PIPE, check=True)
    return msgspec.json.decode(done.stdout, type=Cost)
