"""Mentions as a viewer may see them: one of somebody who is hidden from them, or gone, is left out; the text stays.

Whether anybody is mentioned is the first that an encoded post or comment says: where nobody is, that is all that it
costs. Who is mentioned is known from what says so; so that a list asks for them in the trip that brings it, each
process remembers who is in what it has shown.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from shared.kernel.endpoint import Caller
from shared.kernel.remembered import Remembered
from shared.profiles import reads
from shared.visibility.model import Relation, may_see

_FIRST: Final = b'{"mentions":'
_SOMEBODY: Final = _FIRST + b'["'
# The ids of those mentioned in a post or comment, by username. Who was taken out of it is asked about in vain.
_remembered: Final = Remembered[int, Mapping[str, int]]()


def named_in(body: bytes, start: int = 0) -> list[str]:
    """The usernames mentioned in a post or comment, encoded from `start` on."""
    if not body.startswith(_SOMEBODY, start):
        return []
    return msgspec.json.decode(body[start + len(_FIRST) : body.index(b"]", start) + 1], type=list[str])


def without(encoded: bytes, hidden: Collection[str]) -> bytes:
    """A whole encoded post or comment that mentions none of these."""
    if not hidden:
        return encoded
    shown = msgspec.json.decode(encoded)
    shown["mentions"] = [name for name in shown["mentions"] if name not in hidden]
    if "entities" in shown:
        shown["entities"] = [one for one in shown["entities"] if one["type"] != "mention" or one["text"] not in hidden]
    return msgspec.json.encode(shown)


def expected(subjects: Iterable[int]) -> dict[str, int]:
    """Who may be mentioned in posts or comments that are still to be read: their ids, by username."""
    remembered = [_remembered[subject] for subject in subjects if subject in _remembered]
    return {name: user_id for ids in remembered for name, user_id in ids.items()}


class People(msgspec.Struct, frozen=True):
    """Those whom a trip asked about for a viewer, None for a visitor, who has no relations."""

    viewer: Caller | None
    cards: dict[int, reads.Card]
    relations: dict[int, Relation]

    def sees(self, user_id: int | None) -> bool:
        """Whether somebody is there, and the viewer may see them."""
        return user_id in self.cards and (self.viewer is None or may_see(self.relations[user_id]))


async def hidden(
    bodies: Mapping[int, bytes], start: int, people: People, known: Mapping[str, int]
) -> dict[int, list[str]]:
    """Whom of those mentioned the viewer may not see, by post or comment; those that hide nobody are left out.

    `bodies` are encoded from `start` on. `known` are ids by username of whom `people` tells; about the rest another
    trip asks.
    """
    # Asked here, and not of `named_in`: a call for each of a page is felt.
    named = {subject: named_in(body, start) for subject, body in bodies.items() if body.startswith(_SOMEBODY, start)}
    if not named:
        return {}
    everybody = dict.fromkeys(name for names in named.values() for name in names)
    late = [name for name in everybody if name not in known]
    if late:
        found = await reads.ids_of(late)
        known = {**known, **found}
        if found:
            cards, relations = await reads.meet(people.viewer, list(found.values()))
            people = People(people.viewer, people.cards | cards, people.relations | relations)
        _remembered.add(
            {subject: {name: known[name] for name in names if name in known} for subject, names in named.items()}
        )
    unseen = {name for name in everybody if not people.sees(known.get(name))}
    if not unseen:
        return {}
    return {subject: gone for subject, names in named.items() if (gone := [name for name in names if name in unseen])}


async def known(bodies: Mapping[int, bytes], start: int) -> dict[str, int]:
    """Who is mentioned in posts or comments that were read: their ids, by username."""
    names = list(dict.fromkeys(name for body in bodies.values() for name in named_in(body, start)))
    return await reads.ids_of(names) if names else {}
