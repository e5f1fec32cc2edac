"""Rate limits: GCRA in Redis, one small script in the request's first round trip; per process while Redis is down.

Source: "Rate limiting, cells, and GCRA" (the generic cell rate algorithm of ATM). Fields are those of the IETF's
RateLimit draft.
"""

import math
import time
from functools import cache
from typing import Any, Final

import msgspec

from shared.kernel.cache import Command, Script
from shared.kernel.config import settings
from shared.kernel.endpoint import LimitClass
from shared.kernel.problems import TooManyRequests


class Quota(msgspec.Struct, frozen=True):
    """`requests` in `seconds`, of which all may come at once."""

    requests: int
    seconds: int


QUOTAS: Final[dict[LimitClass, Quota]] = {
    "read": Quota(1200, 60),
    "write": Quota(240, 60),
    "upload": Quota(120, 60),
    "sign_in": Quota(30, 60),
    "mail": Quota(10, 60),
}

# KEYS: the cell. ARGV: emission interval and burst tolerance, µs. Answers {1, remaining µs} or {0, µs to wait}.
_GCRA: Final = Script("""
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, tolerance = tonumber(ARGV[1]), tonumber(ARGV[2])
local tat = tonumber(redis.call('GET', KEYS[1]) or now)
if tat < now then tat = now end
local next = tat + interval
if next - now > tolerance then return {0, next - now - tolerance} end
redis.call('SET', KEYS[1], string.format('%.0f', next), 'PX', math.ceil((next - now) / 1000))
return {1, tolerance - (next - now)}
""")


@cache
def _cell(limit: LimitClass) -> tuple[int, int]:
    """Emission interval and burst tolerance of a class, µs."""
    quota = QUOTAS[limit]
    scaled = quota.requests * settings().rate_limit_scale
    return max(1, quota.seconds * 1_000_000 // scaled), quota.seconds * 1_000_000


def command(limit: LimitClass, subject: str) -> Command:
    """The command that takes one request of `limit` from `subject`'s allowance."""
    return _GCRA.command([f"limit:{limit}:{subject}"], _cell(limit))


def judge(limit: LimitClass, reply: Any) -> str:
    """The `RateLimit` field for the command's reply. Raises TooManyRequests, which has `RateLimit-Policy` too."""
    quota = QUOTAS[limit]
    interval, _ = _cell(limit)
    allowed, micros = reply
    if not allowed:
        problem = TooManyRequests(math.ceil(micros / 1_000_000))
        problem.headers |= {
            "RateLimit": f'"{limit}";r=0;t={math.ceil(micros / 1_000_000)}',
            "RateLimit-Policy": f'"{limit}";q={quota.requests * settings().rate_limit_scale};w={quota.seconds}',
        }
        raise problem
    return f'"{limit}";r={micros // interval};t={quota.seconds}'


_local: dict[str, float] = {}


def judge_locally(limit: LimitClass, subject: str) -> str:
    """The same rule in this process's memory, while Redis is down."""
    interval, tolerance = _cell(limit)
    now = time.monotonic() * 1_000_000
    if len(_local) > 100_000:
        _local.clear()
    key = f"{limit}:{subject}"
    following = max(_local.get(key, 0.0), now) + interval
    if following - now > tolerance:
        return judge(limit, (0, int(following - now - tolerance)))
    _local[key] = following
    return judge(limit, (1, int(tolerance - (following - now))))
