"""What a kind of thing to verify is, and how a difference is said."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from shared.kernel import cache, ids
from shared.kernel.projection import VERSION_DIGITS

SHOWN_CHARACTERS: Final = 120
REBUILT: Final = "written anew"
DROPPED: Final = "dropped; the next read fills it"


class Wrong(NamedTuple):
    """A key, what is there, and what Postgres says."""

    key: str
    has: str
    says: str


class Kind(NamedTuple):
    """How some keys of a kind are judged, and how those that are wrong are brought up to date."""

    judge: Callable[[Sequence[str]], Iterable[Wrong]]
    mend: Callable[[Sequence[str]], None]
    mended: str


def owner(key: str) -> int:
    """Whose it is: the id that a key ends with. Raises ValueError."""
    return ids.decode(key.rpartition(":")[2])


def drop(keys: Sequence[str]) -> None:
    """Take keys away, for the next read to fill."""
    cache.run_sync(("DEL", *keys))


def shown(value: bytes) -> str:
    """A value, with its version if it carries one."""
    version, body = value[:VERSION_DIGITS], value[VERSION_DIGITS:]
    if not version.isdigit() or len(version) < VERSION_DIGITS:
        return short(value.decode(errors="replace"))
    return f"version {int(version)}: {short(body.decode(errors='replace')) or 'gone'}"


def short(text: str) -> str:
    """The beginning of a text, if it is long."""
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
