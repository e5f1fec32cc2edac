"""What a process remembers of what never changes, so as not to ask for it again."""

from collections.abc import Mapping
from typing import Final, TypeVar

_MOST: Final = 50_000
K = TypeVar("K")
V = TypeVar("V")


class Remembered(dict[K, V]):
    """What was found, by key; where that has become too much, all is forgotten."""

    def add(self, found: Mapping[K, V]) -> None:
        """Remember what was found."""
        if len(self) > _MOST:
            self.clear()
        self.update(found)
