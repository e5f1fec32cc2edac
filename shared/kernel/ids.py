"""Ids: 63-bit integers that grow with time, 13 characters of Crockford base32 outside the database.

41 bits of milliseconds since 2024 and 22 random bits. The text form sorts as the number does, so that it serves as
a member of a lexically ordered Redis set. Two ids of one table made in the same millisecond may (1 in 4 million) be
equal: the primary key refuses the second, whose request fails with nothing done; sent again it gets another id.
"""

import secrets
from functools import lru_cache
from typing import Final

from shared.kernel import clock

EPOCH_MS: Final = 1_704_067_200_000  # 2024-01-01
RANDOM_BITS: Final = 22
LENGTH: Final = 13
MAX: Final = (1 << 63) - 1
ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
# To Python's own digits of base 32, which `int` reads in C; whatever else is ASCII to what it refuses.
_DIGITS: Final = str.maketrans(
    {chr(code): "!" for code in range(128)} | dict(zip(ALPHABET, "0123456789abcdefghijklmnopqrstuv", strict=True))
)
_PAIRS: Final = [a + b for a in ALPHABET for b in ALPHABET]
# The ids of a page come again and again: looking one up costs a tenth of working it out.
_REMEMBERED: Final = 1 << 14


def new_id() -> int:
    """A fresh id, greater than those of earlier milliseconds."""
    return (clock.now_ms() - EPOCH_MS) << RANDOM_BITS | secrets.randbits(RANDOM_BITS)


def until_now() -> int:
    """No less than any id made so far."""
    return first_of(clock.now_ms() + 1)


def first_of(instant: int) -> int:
    """The least id of an instant, in milliseconds since the epoch."""
    return (instant - EPOCH_MS) << RANDOM_BITS


@lru_cache(_REMEMBERED)
def encode(number: int) -> str:
    """The 13-character form. `number` is in 0 … MAX."""
    pairs = _PAIRS
    return (
        ALPHABET[number >> 60]
        + pairs[number >> 50 & 1023]
        + pairs[number >> 40 & 1023]
        + pairs[number >> 30 & 1023]
        + pairs[number >> 20 & 1023]
        + pairs[number >> 10 & 1023]
        + pairs[number & 1023]
    )


@lru_cache(_REMEMBERED)
def decode(text: str) -> int:
    """The number behind a 13-character form. Raises ValueError for anything else."""
    if len(text) != LENGTH or not text.isascii():
        raise ValueError("an id has 13 characters of base32")
    number = int(text.translate(_DIGITS), 32)
    if number > MAX:
        raise ValueError("no such id")
    return number


def encoded_sql(number: str) -> str:
    """`encode` for SQL, of an expression that is an id."""
    digit = f"substr('{ALPHABET}', CAST(({number} >> (5 * place)) & 31 AS integer) + 1, 1)"
    return f"(SELECT string_agg({digit}, '' ORDER BY place DESC) FROM generate_series(0, {LENGTH - 1}) AS place)"


def made_at(number: int) -> int:
    """The instant in an id, in milliseconds since the epoch."""
    return (number >> RANDOM_BITS) + EPOCH_MS


def made_at_sql(number: str) -> str:
    """`made_at` for SQL, of an expression that is an id."""
    return f"({number} >> {RANDOM_BITS}) + {EPOCH_MS}"
