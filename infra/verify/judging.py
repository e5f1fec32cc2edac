"""What is common to all kinds: what a difference is, and how it is shown."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from shared.kernel import cache, ids
from shared.kernel.projection import VERSION_DIGITS

SHOWN_CHARACTERS: Final = 120
REBUILT: Final = "written anew"
DROPPED: Final = "dropped; the next read fills it"
COMPLETE: Final = "~"


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


def judge_map(key: str, has: dict[str, bytes], says: dict[str, tuple[int, bytes]]) -> Iterator[Wrong]:
    """A map of versioned fields: complete where it says so, with "~"."""
    complete = has.pop(COMPLETE, None) is not None
    names = {*has, *says} if complete else {*has}
    for name in sorted(names):
        there, (version, flags) = has.get(name, b"0" * VERSION_DIGITS), says.get(name, (0, b""))
        # A version that is ahead would refuse what comes; of one who is nothing to them Postgres tells no version.
        ahead = name in says and int(there[:VERSION_DIGITS]) > version
        if ahead or there[VERSION_DIGITS:] != flags:
            yield Wrong(key, f"{name} {shown(there)}", f"{name} {shown(b'%016d%b' % (version, flags))}")
            return


def shown(value: bytes) -> str:
    """A versioned value."""
    version, body = value[:VERSION_DIGITS], value[VERSION_DIGITS:]
    if not version.isdigit() or len(version) < VERSION_DIGITS:
        return short(value.decode(errors="replace"))
    return f"version {int(version)}: {short(body.decode(errors='replace')) or 'gone'}"


def short(text: str) -> str:
    """A text, cut to what fits a line."""
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def drop(keys: Sequence[str]) -> None:
    """Take keys away."""
    cache.run_sync(("DEL", *keys))
