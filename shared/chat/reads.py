"""Chats and messages as one of the two sees them: what is cached first, then cards and relations, or with it."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from shared.chat import projection, store
from shared.chat.model import Box, ChatQuery
from shared.chat.projection import BOXES, MESSAGES, ChatEntry, Entry
from shared.kernel import cache, db, guard, ids, moving
from shared.kernel.endpoint import Caller, Encoded, Username
from shared.kernel.pages import PageQuery, refilled
from shared.kernel.problems import Invalid, NotFound
from shared.live import publish as live
from shared.profiles import reads as profiles
from shared.visibility import reads as visibility
from shared.visibility.model import may_see


async def chats(caller: Caller, query: ChatQuery) -> Encoded:
    """A page of the chats in one of the caller's boxes, latest first, refilled for what the gate took out."""

    async def visible(found: Sequence[ChatEntry]) -> list[tuple[int, bytes]]:
        people = [caller.user_id, *[entry.other for entry in found]]
        try:
            replies = await cache.run(profiles.ask_cards(people), visibility.ask(caller.user_id, people))
        except cache.CacheUnavailable:
            replies = [[None] * len(people), [None]]
        cards = await profiles.take_cards(people, replies[0])
        relations = await visibility.take(caller.user_id, people, replies[1])
        return [
            (entry.position, projection.encoded_chat(entry, cards))
            for entry in found
            if entry.other in cards and caller.user_id in cards and may_see(relations[entry.other])
        ]

    load = partial(_chats_in_postgres, caller.user_id, query.box)
    return await moving.page(_LETTERS[query.box], query, BOXES[query.box], caller.user_id, load, visible)


_LETTERS: dict[Box, str] = {"inbox": "h", "requests": "q"}


async def messages(caller: Caller, username: Username, query: PageQuery) -> Encoded:
    """A page of the messages between the caller and `username`, newest first, in one trip.

    Raises NotFound where the caller may not see them, Invalid for the caller's own name.
    """
    other = await profiles.resolve(username)
    if other == caller.user_id:
        raise yourself()
    people = [caller.user_id, other]
    seen: list[Any] = []

    def load(before: int, count: int) -> list[Entry]:
        return _messages_in_postgres(caller.user_id, other, before, count)

    async def entries(before: int | None, count: int) -> list[Entry]:
        nonlocal seen
        reply: Any = None
        seen = [[None, None], [None]]
        asked = MESSAGES.ask((caller.user_id, other))
        try:
            reply, *seen = await guard.first(asked, profiles.ask_cards(people), visibility.ask(caller.user_id, [other]))
        except cache.CacheUnavailable:
            pass  # Postgres has the list too
        return await MESSAGES.take((caller.user_id, other), reply, before, count, load)

    async def visible(found: Sequence[Entry]) -> list[tuple[int, bytes]]:
        cards = await profiles.take_cards(people, seen[0])
        relations = await visibility.take(caller.user_id, [other], seen[1])
        if len(cards) < len(people) or not may_see(relations[other]):
            raise NotFound("user_not_found")
        return [(entry.position, projection.encoded(entry, other, cards)) for entry in found]

    return await refilled("t", query, entries, visible)


def yourself() -> Invalid:
    """Nobody chats with themselves."""
    return Invalid.field("username", "yourself", "You can't chat with yourself.")


def unread_count(user_id: int) -> int:
    """How many chats in a user's inbox have something unread that they may see, of Postgres; counted up to 1,000."""
    with db.connection() as conn:
        return store.UNREAD_CHATS.one(conn, user_id=user_id).count


def newest_chats(box: Box, user_id: int) -> list[ChatEntry]:
    """The chats in a user's box as they are kept in Redis, of Postgres."""
    return _chats_in_postgres(user_id, box, moving.Walk(), BOXES[box].keep)


def newest_messages(pair: tuple[int, int]) -> list[Entry]:
    """The messages that the first of two has of their chat as they are kept in Redis, of Postgres."""
    return _messages_in_postgres(*pair, ids.MAX, MESSAGES.keep)


def refresh(user_id: int, other_id: int, *, box: bool = False) -> None:
    """Drop what is cached of the chat of two; the next read fills it. Raises CacheUnavailable.

    `box`: it may be that `user_id` has left it, and shows the other no more when they are here.
    """
    hidden = [live.look_again(user_id, other_id)] if box else []
    cache.run_sync(*projection.changed(user_id, other_id), *hidden)


def _chats_in_postgres(user_id: int, box: Box, walk: moving.Walk, count: int) -> list[ChatEntry]:
    with db.connection() as conn:
        rows = store.IN_BOX.all(conn, user_id=user_id, box=box, limit=count, **walk.parameters())
    return [projection.chat_entry_of(row) for row in rows]


def _messages_in_postgres(user_id: int, other_id: int, before: int, count: int) -> list[Entry]:
    with db.connection() as conn:
        rows = store.OF_CHAT.all(conn, user_id=user_id, other_id=other_id, before=before, limit=count)
    return [projection.entry_of(row) for row in rows]
