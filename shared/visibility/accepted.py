"""Whose chat a user has accepted: it is in their inbox, and no request.

Kept for each two as one value, that each change of their chat takes away (shared/kernel/recent.py).
"""

from typing import Final

import msgspec

from shared.kernel import cache, db
from shared.kernel.recent import Recent
from shared.visibility import store


class Accepted(msgspec.Struct, frozen=True, array_like=True):
    """That a chat is accepted, by its id."""

    position: int


ACCEPTED: Final = Recent("accepted", Accepted, keep=1)


def key(user_id: int, other_id: int) -> str:
    """The key of the value for `shows_presence`."""
    return ACCEPTED.key((user_id, other_id))


async def shows_presence(user_id: int, other_id: int, *, follows: bool, value: bytes | None) -> bool:
    """Whether `user_id` lets `other_id` see when they are here, as far as both show it, and may see each other.

    By following them, or having accepted the chat with them: by the value of `key`, of Postgres on a miss.
    """
    pair = (user_id, other_id)

    def load(_before: int, _count: int) -> list[Accepted]:
        return of_postgres(pair)

    return follows or bool(await ACCEPTED.take(pair, [value], None, 1, load))


def changed(user_id: int, other_id: int) -> list[cache.Command]:
    """The commands to run after anything of the chat of two was changed."""
    return [ACCEPTED.changed((user_id, other_id)), ACCEPTED.changed((other_id, user_id))]


def of_postgres(pair: tuple[int, int]) -> list[Accepted]:
    """That the first of two has accepted the chat with the second; empty where they have not."""
    user_id, other_id = pair
    with db.connection() as conn:
        row = store.ACCEPTED.maybe(conn, user_id=user_id, other_id=other_id)
    return [] if row is None else [Accepted(row.chat_id)]
