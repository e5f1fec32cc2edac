"""The seeded world: who there is, how they stand to each other, who posts what, and what others do with it.

Pure, and the same for the same numbers.
"""

import random
import unicodedata
from dataclasses import dataclass, field
from typing import Literal, get_args

from infra.seed.chats import PlannedChat, plan_chats
from infra.seed.talk import Reactions, Remark, plan_reactions, plan_talk
from infra.seed.words import ALT_TEXTS, BIOS, COMPLAINTS, EMOJI, HASHTAGS, NAMES, SENTENCES
from shared.moderation.model import Reason, ReportedType
from shared.notifications.model import NotificationType
from shared.posts.model import PostType

Kind = Literal["celebrity", "regular", "loner"]
TYPES: tuple[str, ...] = get_args(PostType)
MONTHS = (3, 5, 8, 11)
NUMBERS = range(100_000)
COMPANY = 60
LONG_TALK = 40
PASSWORD = "a world of many voices"  # noqa: S105 - of a world of play


@dataclass(frozen=True)
class Resident:
    """An account of the world. `picture` is the seed of it; `unwanted` are notifications that are turned off."""

    username: str
    name: str
    bio: str
    birthday: str
    kind: Kind
    links: tuple[str, ...]
    picture: int | None
    unwanted: tuple[str, ...]


@dataclass(frozen=True)
class PlannedMedium:
    """A photo or film, by its seed."""

    seed: int
    alt_text: str | None


@dataclass
class PlannedPost:
    """A post to be made; `edited` is what its description is changed to. Then what others do with it, by username."""

    author: str
    type: str
    description: str
    media: list[PlannedMedium]
    edited: str | None = None
    talk: list[Remark] = field(default_factory=list)
    reactions: Reactions = field(default_factory=list)
    saves: list[str] = field(default_factory=list)
    reposts: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class PlannedReport:
    """A report to be filed: on the author of the post with this index, on it, or on the first comment on it."""

    reporter: str
    type: ReportedType
    post: int
    reason: Reason
    detail: str | None


@dataclass
class World:
    """Everything that is to be. The pairs are who acts, and towards whom."""

    residents: list[Resident]
    follows: list[tuple[str, str]]
    blocks: list[tuple[str, str]]
    mutes: list[tuple[str, str]]
    posts: list[PlannedPost] = field(default_factory=list)
    reports: list[PlannedReport] = field(default_factory=list)
    chats: list[PlannedChat] = field(default_factory=list)


@dataclass(frozen=True)
class _Society:
    """Who goes out, and from whom each of them is parted by a block."""

    names: list[str]
    parted: dict[str, set[str]]

    def company(self, dice: random.Random, host: str) -> list[str]:
        """The host and others who go out, all of whom may see each other."""
        found = {host: None}
        for name in dice.sample(self.names, min(COMPANY, len(self.names))):
            if self.parted[name].isdisjoint(found):
                found[name] = None
        return list(found)


def build(users: int, seed: int) -> World:
    """A world of so many users."""
    dice = random.Random(f"{seed}:{users}")
    # Two worlds on one stack hardly share a name.
    numbers = dice.sample(NUMBERS, users)
    residents = [_resident(dice, place, number, users) for place, number in enumerate(numbers)]
    follows = _follows(dice, residents)
    blocks, parted = _blocks(dice, residents, follows)
    world = World(residents, follows, blocks, sorted(dice.sample(follows, min(len(follows), users // 10))))
    for resident in residents:
        for _ in range(_post_count(dice, resident.kind)):
            # So the first celebrity alone has posts of every type.
            world.posts.append(_post(dice, resident, residents, TYPES[len(world.posts) % len(TYPES)]))
    society = _Society([one.username for one in residents if one.kind != "loner"], parted)
    famous = {one.username for one in residents if one.kind == "celebrity"}
    for place, post in enumerate(world.posts):
        _engage(dice, post, society.company(dice, post.author), famous=post.author in famous, first=place == 0)
    dice.shuffle(world.posts)
    world.reports += _reports(dice, world.posts)
    world.chats += plan_chats(dice, society.names, parted, follows, users)
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
    username = f"{latin}.{number:05}"
    return Resident(
        username,
        name,
        dice.choice(BIOS),
        birthday,
        _kind(place, users),
        (f"https://example.com/{username}",) if dice.random() < 0.3 else (),
        dice.randrange(1 << 30) if dice.random() < 0.6 else None,
        tuple(dice.sample(get_args(NotificationType), 2)) if dice.random() < 0.15 else (),
    )


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


def _blocks(
    dice: random.Random, residents: list[Resident], follows: list[tuple[str, str]]
) -> tuple[list[tuple[str, str]], dict[str, set[str]]]:
    """Blocks between some who don't follow each other, which a block would end; and from whom it parts each."""
    others = [one.username for one in residents if one.kind == "regular"]
    tied = {frozenset(pair) for pair in follows}
    parted: dict[str, set[str]] = {one.username: set() for one in residents}
    blocks: list[tuple[str, str]] = []
    for _ in range(len(residents) // 10 if len(others) > 1 else 0):
        one, other = dice.sample(others, 2)
        if frozenset((one, other)) not in tied and other not in parted[one]:
            blocks.append((one, other))
            parted[one].add(other)
            parted[other].add(one)
    return blocks, parted


def _post_count(dice: random.Random, kind: Kind) -> int:
    return {"celebrity": dice.randint(8, 14), "regular": dice.randint(0, 4), "loner": int(dice.random() < 0.2)}[kind]


def _post(dice: random.Random, author: Resident, residents: list[Resident], type: str) -> PlannedPost:
    words = [dice.choice(SENTENCES) + dice.choice(EMOJI)]
    if dice.random() < 0.1:
        words += [dice.choice(SENTENCES) for _ in range(12)]
    words += [f"@{dice.choice(residents).username}" for _ in range(dice.choice((0, 0, 0, 1, 1, 2)))]
    words += [f"#{tag}" for tag in dice.sample(HASHTAGS, dice.randint(0, 3))]
    count = 1 if type == "reel" else dice.choice((1, 1, 1, 1, 2, 3))
    media = [PlannedMedium(dice.randrange(1 << 30), dice.choice(ALT_TEXTS)) for _ in range(count)]
    edited = " ".join([dice.choice(SENTENCES), *words]) if dice.random() < 0.1 else None
    return PlannedPost(author.username, type, " ".join(words), media, edited)


def _engage(dice: random.Random, post: PlannedPost, company: list[str], *, famous: bool, first: bool) -> None:
    """What others do with a post: more with a celebrity's, and below the first there is a long talk."""
    guests = [name for name in company if name != post.author]
    post.talk = plan_talk(dice, company, LONG_TALK if first else dice.randint(0, 12 if famous else 4))
    post.reactions = plan_reactions(dice, guests, 40 if famous else 8)
    post.saves = dice.sample(guests, min(len(guests), dice.choice((0, 0, 1, 3))))
    post.reposts = dice.sample(guests, min(len(guests), dice.choice((0, 1, 4) if famous else (0, 0, 0, 1))))


def _reports(dice: random.Random, posts: list[PlannedPost]) -> list[PlannedReport]:
    """One of each type, about posts that are talked about: by who saw them, on what is not theirs."""
    found: list[PlannedReport] = []
    saw = {
        place: [name for name, _ in post.reactions if name != post.talk[0].author]
        for place, post in enumerate(posts)
        if post.talk and not post.talk[0].deleted
    }
    places = [place for place, names in saw.items() if names]
    for type in get_args(ReportedType) if places else ():
        place = dice.choice(places)
        reason, detail = dice.choice(get_args(Reason)), dice.choice(COMPLAINTS)
        found.append(PlannedReport(dice.choice(saw[place]), type, place, reason, detail))
    return found
