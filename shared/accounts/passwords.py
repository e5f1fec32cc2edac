"""Password hashes: argon2id with OWASP's parameters, the same work whether or not there is an account."""

from functools import cache
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from shared.accounts.model import normalise_password
from shared.kernel import running, tokens

# OWASP Password Storage Cheat Sheet: argon2id, 19 MiB, 2 passes, 1 lane.
_HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


@running.blocking
def hash_password(password: str) -> str:
    """The hash to keep."""
    return _HASHER.hash(normalise_password(password))


@running.blocking
def verify_password(kept: str | None, password: str) -> bool:
    """Whether `password` is the one behind `kept`. None costs the same work, and is never right."""
    try:
        _HASHER.verify(kept or _nobodys(), normalise_password(password))
    except (VerifyMismatchError, InvalidHashError):
        return False
    return kept is not None


def is_outdated(kept: str) -> bool:
    """Whether the hash was made with other parameters than today's."""
    return _HASHER.check_needs_rehash(kept)


@cache
def _nobodys() -> str:
    return _HASHER.hash(tokens.new_secret())
