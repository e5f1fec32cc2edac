"""Notifications as their owner sees them: groups in the first trip, actors' cards and relations in the second."""

import msgspec

from shared.kernel import cache, db, guard, ids
from shared.kernel.endpoint import Caller, Encoded
from shared.kernel.pages import PageQuery, cursor
from shared.notifications import projection, store
from shared.notifications.model import Subject
from shared.profiles import reads as profiles
from shared.visibility import reads as visibility
from shared.visibility.model import may_notify


class _Head(msgspec.Struct, frozen=True):
    id: str
    type: str
    subject: Subject
    actor_count: int
    at: int
    unread: bool


async def page(caller: Caller, query: PageQuery) -> Encoded:
    """A page of the caller's notifications, latest first, refilled for what the gate took out."""
    before = query.before("n")
    items: list[bytes] = []
    while True:
        wanted = query.limit - len(items) + 1
        groups = await _groups(caller.user_id, before, wanted)
        for group, encoded in await _visible(caller, groups):
            if len(items) == query.limit:
                return Encoded(_join(items, cursor("n", before or 0)))
            items.append(encoded)
            before = group.latest_id
        if len(groups) < wanted:
            return Encoded(_join(items, None))
        if len(items) < query.limit:
            before = groups[-1].latest_id
        elif before == groups[-1].latest_id:
            return Encoded(_join(items, cursor("n", before or 0)))
        else:
            # The last one asked for was hidden; whether more follow is for the next page to say.
            return Encoded(_join(items, cursor("n", groups[-1].latest_id or 0)))


def unread_count(user_id: int) -> int:
    """How many groups are unread, of Postgres; counted up to 1,000."""
    with db.connection() as conn:
        return store.UNREAD.one(conn, user_id=user_id).count


def encoded(group: store.GroupRow, found: dict[int, profiles.Card]) -> bytes:
    """A notification as JSON, with the cards of its actors who are there."""
    head = _Head(
        id=ids.encode(group.id),
        type=group.type,
        subject=_subject(group.subject),
        actor_count=group.actor_count,
        at=ids.made_at(group.latest_id or 0),
        unread=group.unread,
    )
    actors = b",".join(found[actor].json for actor in group.actors if actor in found)
    return b'%b,"actors":[%b]}' % (msgspec.json.encode(head)[:-1], actors)


def _subject(text: str) -> Subject:
    kind, _, name = text.partition(":")
    return Subject("post" if kind == "post" else "user", name)


async def _groups(user_id: int, before: int | None, count: int) -> list[store.GroupRow]:
    generation: bytes | None = None
    try:
        (reply,) = await guard.first(projection.ask(user_id))
        groups, generation = projection.take(reply)
    except cache.CacheUnavailable:
        groups = None
    if groups is None and generation is not None:
        groups = await db.in_thread(_load, user_id, ids.MAX, projection.KEPT)
        try:
            await cache.run(projection.fill(user_id, generation, groups))
        except cache.CacheUnavailable:
            pass  # the answer is at hand; a later read fills the cache
    older = [group for group in groups or [] if before is None or (group.latest_id or 0) < before]
    if groups is not None and (len(older) >= count or len(groups) < projection.KEPT):
        return older[:count]
    return await db.in_thread(_load, user_id, ids.MAX if before is None else before, count)


def _load(user_id: int, before: int, count: int) -> list[store.GroupRow]:
    with db.connection() as conn:
        return store.OF_USER.all(conn, user_id=user_id, before=before, limit=count)


async def _visible(caller: Caller, groups: list[store.GroupRow]) -> list[tuple[store.GroupRow, bytes]]:
    actors = list(dict.fromkeys(actor for group in groups for actor in group.actors))
    if not actors:
        return []
    try:
        replies = await cache.run(profiles.ask_cards(actors), visibility.ask(caller.user_id, actors))
    except cache.CacheUnavailable:
        replies = [[None] * len(actors), [None]]
    found = await profiles.take_cards(actors, replies[0])
    relations = await visibility.take(caller.user_id, actors, replies[1])
    heard = {actor: card for actor, card in found.items() if may_notify(relations[actor])}
    return [(group, encoded(group, heard)) for group in groups if any(actor in heard for actor in group.actors)]


def _join(items: list[bytes], next_cursor: str | None) -> bytes:
    end = b"null" if next_cursor is None else b'"%b"' % next_cursor.encode()
    return b'{"items":[%b],"next_cursor":%b}' % (b",".join(items), end)
