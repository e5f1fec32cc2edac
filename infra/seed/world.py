"""The seeded world: who there is, who follows whom, who posts what. Pure, and the same for the same numbers."""

import random
import unicodedata
from dataclasses import dataclass, field
from typing import Literal

from infra.photos import SIZES
from infra.seed.words import BIOS, EMOJI, HASHTAGS, NAMES, SENTENCES

Kind = Literal["celebrity", "regular", "loner"]
MONTHS = (3, 5, 8, 11)
NUMBERS = range(100_000)
PASSWORD = "a world of many voices"  # noqa: S105 - of a world of play


@dataclass(frozen=True)
class Resident:
    """An account of the world."""

    username: str
    name: str
    bio: str
    birthday: str
    kind: Kind


@dataclass(frozen=True)
class PlannedPost:
    """A post to be made; `photos` are the seeds of its pictures."""

    author: str
    type: str
    description: str
    photos: tuple[int, ...]


@dataclass(frozen=True)
class World:
    """Everything that is to be."""

    residents: list[Resident]
    follows: list[tuple[str, str]] = field(default_factory=list)
    posts: list[PlannedPost] = field(default_factory=list)


def build(users: int, seed: int) -> World:
    """A world of so many users."""
    dice = random.Random(f"{seed}:{users}")
    # Two worlds on one stack hardly share a name.
    numbers = dice.sample(NUMBERS, users)
    residents = [_resident(dice, place, number, users) for place, number in enumerate(numbers)]
    world = World(residents, _follows(dice, residents))
    for resident in residents:
        for _ in range(_post_count(dice, resident.kind)):
            world.posts.append(_post(dice, resident, residents))
    dice.shuffle(world.posts)
    return world


def _kind(place: int, users: int) -> Kind:
    celebrities = max(1, users // 50)
    if place < celebrities:
        return "celebrity"
    return "loner" if place >= users - users // 10 else "regular"


def _resident(dice: random.Random, place: int, number: int, users: int) -> Resident:
    language = list(NAMES)[place % len(NAMES)]
    stem, name = dice.choice(NAMES[language])
    latin = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    birthday = f"{dice.randint(1950, 2008)}-{dice.choice(MONTHS):02}-{dice.randint(1, 28):02}"
    return Resident(f"{latin}.{number:05}", name, dice.choice(BIOS), birthday, _kind(place, users))


def _follows(dice: random.Random, residents: list[Resident]) -> list[tuple[str, str]]:
    """Nearly all follow most celebrities; regulars follow those near them and some at random; loners hardly any."""
    celebrities = [one.username for one in residents if one.kind == "celebrity"]
    others = [one.username for one in residents if one.kind == "regular"]
    few = max(1, len(others) // 5)  # also in a small world a celebrity stands out
    found: set[tuple[str, str]] = set()
    for place, resident in enumerate(residents):
        chosen: list[str] = []
        if resident.kind == "loner":
            chosen = dice.sample(celebrities, dice.randint(0, 1))
        else:
            chosen += [name for name in celebrities if dice.random() < 0.8]
        if resident.kind == "regular" and others:
            chosen += [others[(place + step) % len(others)] for step in range(1, min(few, 5) + 1)]
            chosen += dice.sample(others, min(few, dice.randint(2, 14)))
        found |= {(resident.username, name) for name in chosen if name != resident.username}
    return sorted(found)


def _post_count(dice: random.Random, kind: Kind) -> int:
    return {"celebrity": dice.randint(8, 14), "regular": dice.randint(0, 4), "loner": int(dice.random() < 0.2)}[kind]


def _post(dice: random.Random, author: Resident, residents: list[Resident]) -> PlannedPost:
    words = [dice.choice(SENTENCES) + dice.choice(EMOJI)]
    if dice.random() < 0.1:
        words += [dice.choice(SENTENCES) for _ in range(12)]
    words += [f"@{dice.choice(residents).username}" for _ in range(dice.choice((0, 0, 0, 1, 1, 2)))]
    words += [f"#{tag}" for tag in dice.sample(HASHTAGS, dice.randint(0, 3))]
    photos = tuple(dice.randrange(1 << 30) for _ in range(dice.choice((1, 1, 1, 1, 2, 3))))
    return PlannedPost(author.username, dice.choice(list(SIZES)), " ".join(words), photos)
