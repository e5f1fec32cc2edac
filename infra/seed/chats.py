"""The chats of the seeded world: who writes what to whom, and how far the two have read; requests, too."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

from infra.seed.words import EMOJI, REACTIONS, REMARKS, SENTENCES

Sort = Literal["text", "photo", "video", "voice", "audio", "file"]
SORTS: tuple[Sort, ...] = get_args(Sort)
# What becomes of a request. In a `talk` both have written.
Fate = Literal["talk", "wait", "accept", "decline"]
REQUESTS: tuple[Fate, ...] = ("wait", "accept", "decline")
LONG_CHAT = 40
TRIES = 20


@dataclass
class PlannedMessage:
    """A message; `text` is what it says, or its caption, title or name, and `seed` that of what is attached.

    `reply_to` is the place of an earlier one in the chat; `edited` what a text is changed to. Then the reactions of the
    two, and whether its sender deletes it for both.
    """

    sender: str
    sort: Sort
    text: str
    seed: int
    reply_to: int | None = None
    edited: str | None = None
    deleted: bool = False
    reactions: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class PlannedChat:
    """A chat that `one` begins. `marks`: up to which places messages were delivered to each, and read."""

    one: str
    other: str
    fate: Fate
    messages: list[PlannedMessage]
    marks: dict[str, tuple[int, int]]


def plan_chats(
    dice: random.Random, names: list[str], parted: dict[str, set[str]], follows: Iterable[tuple[str, str]], users: int
) -> list[PlannedChat]:
    """Chats between people who may see each other; requests go to who doesn't follow the one that sends them."""
    known = set(follows)
    pairs = _pairs(dice, names, max(1, users // 2), lambda one, other: other not in parted[one])
    chats = [
        _chat(dice, *pair, "talk", LONG_CHAT if place == 0 else dice.randint(0, 12)) for place, pair in enumerate(pairs)
    ]
    talks = {frozenset(pair) for pair in pairs}

    def are_strangers(one: str, other: str) -> bool:
        return other not in parted[one] and (other, one) not in known and frozenset((one, other)) not in talks

    pairs = _pairs(dice, names, max(len(REQUESTS), users // 5), are_strangers)
    return chats + [
        _chat(dice, *pair, REQUESTS[place % len(REQUESTS)], dice.randint(1, 3)) for place, pair in enumerate(pairs)
    ]


def _pairs(
    dice: random.Random, names: list[str], count: int, fits: Callable[[str, str], bool]
) -> list[tuple[str, str]]:
    """Up to so many pairs that fit, no two of the same people."""
    found: dict[frozenset[str], tuple[str, str]] = {}
    for _ in range(TRIES * count if len(names) > 1 else 0):
        one, other = dice.sample(names, 2)
        if len(found) < count and fits(one, other):
            found.setdefault(frozenset((one, other)), (one, other))
    return list(found.values())


def _chat(dice: random.Random, one: str, other: str, fate: Fate, length: int) -> PlannedChat:
    senders = [one, other, *dice.choices((one, other), k=length)] if fate == "talk" else [one] * length
    messages = [_message(dice, sender, place, long=length == LONG_CHAT) for place, sender in enumerate(senders)]
    for message in messages:
        _befall(dice, message, (one, other))
    left = [place for place, message in enumerate(messages) if not message.deleted]
    marks: dict[str, tuple[int, int]] = {}
    for name in (one, other):
        # Who was written to alone has something to read.
        if left and dice.random() < 0.8 and (fate == "talk" or name == other):
            read, delivered = sorted(dice.choices(left, k=2))
            marks[name] = (delivered, read)
    return PlannedChat(one, other, fate, messages, marks)


def _message(dice: random.Random, sender: str, place: int, *, long: bool) -> PlannedMessage:
    # So the first chat alone has messages of every sort.
    sort: Sort = SORTS[place % len(SORTS)] if long else dice.choices(SORTS, (40, 3, 1, 2, 1, 1))[0]
    text = dice.choice(REMARKS + SENTENCES) + dice.choice(EMOJI)
    reply_to = dice.randrange(place) if place and dice.random() < 0.2 else None
    return PlannedMessage(sender, sort, text, dice.randrange(1 << 30), reply_to)


def _befall(dice: random.Random, message: PlannedMessage, two: tuple[str, str]) -> None:
    message.deleted = dice.random() < 0.06
    if not message.deleted:
        if message.sort == "text" and dice.random() < 0.1:
            message.edited = f"{message.text} ({dice.choice(REMARKS)})"
        message.reactions = [(name, dice.choice(REACTIONS)) for name in two if dice.random() < 0.12]
