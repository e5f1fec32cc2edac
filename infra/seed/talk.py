"""What is said below the posts of the seeded world: threads of several depths, edited, illustrated, deleted in part."""

import random
from dataclasses import dataclass, field

from infra.seed.words import EMOJI, REACTIONS, REMARKS

# Most remarks go on where the talk is, which makes it deep.
GOES_ON = 0.6
LATEST = 4

Reactions = list[tuple[str, str]]


@dataclass
class Remark:
    """A comment or reply; `photo` is the seed of its picture, `edited` what its text is changed to.

    One that is `deleted` has replies, and leaves a tombstone above them.
    """

    author: str
    text: str
    photo: int | None = None
    edited: str | None = None
    deleted: bool = False
    reactions: Reactions = field(default_factory=list)
    replies: "list[Remark]" = field(default_factory=list)


def plan_talk(dice: random.Random, company: list[str], length: int) -> list[Remark]:
    """So many remarks of a company, who all may see each other: those to the post itself, with their replies."""
    top: list[Remark] = []
    said: list[Remark] = []
    for _ in range(length):
        remark = _remark(dice, company)
        (dice.choice(said[-LATEST:]).replies if said and dice.random() < GOES_ON else top).append(remark)
        said.append(remark)
    for remark in said:
        _befall(dice, remark, company)
    return top


def plan_reactions(dice: random.Random, company: list[str], most: int) -> Reactions:
    """Reactions of some, each with one emoji."""
    return [(name, dice.choice(REACTIONS)) for name in dice.sample(company, dice.randint(0, min(most, len(company))))]


def _remark(dice: random.Random, company: list[str]) -> Remark:
    words = [dice.choice(REMARKS) + dice.choice(EMOJI)]
    if dice.random() < 0.2:
        words.append(f"@{dice.choice(company)}")
    return Remark(dice.choice(company), " ".join(words), dice.randrange(1 << 30) if dice.random() < 0.08 else None)


def _befall(dice: random.Random, remark: Remark, company: list[str]) -> None:
    remark.deleted = bool(remark.replies) and dice.random() < 0.15
    if not remark.deleted:
        remark.edited = f"{remark.text} ({dice.choice(REMARKS)})" if dice.random() < 0.1 else None
        remark.reactions = plan_reactions(dice, company, 4) if dice.random() < 0.4 else []
