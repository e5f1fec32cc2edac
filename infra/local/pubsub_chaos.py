"""What the real service may do on a bad day, done on purpose: `--duplicate --reorder --delay --drop-acks --seed`.

While it runs it is told anew by `PUT /chaos`, with the same words in JSON; what isn't named is none.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Annotated, Final

import msgspec

OVERTAKEN_MS: Final = 300
TWICE_WITHIN_SECONDS: Final = 0.1

Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Told(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `PUT /chaos`."""

    duplicate: Probability = 0.0
    reorder: Probability = 0.0
    delay: Annotated[int, msgspec.Meta(ge=0)] = 0
    drop_acks: Probability = 0.0
    seed: int | None = None


@dataclass
class Chaos:
    """Probabilities from 0 to 1, and a delay in milliseconds. The same seed makes the same choices."""

    duplicate: float = 0.0
    reorder: float = 0.0
    delay: int = 0
    drop_acks: float = 0.0
    seed: int | None = None
    random: Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)

    def hold_back_ms(self) -> int:
        """How long a new message waits: the delay, and now and then so long that later ones overtake it."""
        overtaken = self.random.randint(1, OVERTAKEN_MS) if self._happens(self.reorder) else 0
        return self.delay + overtaken

    def duplicates(self) -> bool:
        """Whether this delivery is made twice."""
        return self._happens(self.duplicate)

    def second_after(self) -> float:
        """Seconds from a delivery to its duplicate: sometimes while the first is handled, sometimes after."""
        return self.random.uniform(0, TWICE_WITHIN_SECONDS)

    def loses_ack(self) -> bool:
        """Whether this acknowledgement never arrives."""
        return self._happens(self.drop_acks)

    def _happens(self, probability: float) -> bool:
        return probability > 0 and self.random.random() < probability
