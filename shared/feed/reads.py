"""The feed: entries in one round trip to Redis with the guard, posts, authors and relations in a second."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

from shared.feed import projection, store
from shared.feed.model import FEEDS, MERGED_MOST, TOLD, Entry, FeedRepost, decoded, mark_of
from shared.kernel import cache, db, ids, running, single_flight
from shared.kernel.endpoint import Caller, Encoded
from shared.kernel.pages import PageQuery, cursor, join
from shared.posts import reads as posts
from shared.profiles import reads as profiles
from shared.visibility import reads as visibility
from shared.visibility.model import Relation, may_notify, shows_in_feed

# Asked for beyond a page, so that what the gate takes out seldom costs a third trip.
_SPARE: Final = 5
# A look-up for each of them and each user of a chunk.
_LOOKED_AT: Final = 20


async def page(caller: Caller, query: PageQuery) -> Encoded:
    """A page of the caller's feed, newest first, refilled for what the gate took out; a post comes once a page."""
    before = query.before("f")
    items: dict[int, bytes] = {}
    while True:
        wanted = query.limit - len(items) + 1 + _SPARE
        entries = await _entries(caller.user_id, before, wanted)
        for entry, encoded in await _visible(caller, entries):
            if entry.post_id not in items:
                if len(items) == query.limit:
                    return join([*items.values()], cursor("f", before or 0))
                items[entry.post_id] = encoded
            before = entry.position
        if len(entries) < wanted:
            return join([*items.values()], None)
        if len(items) == query.limit:
            return join([*items.values()], cursor("f", before or 0))
        before = entries[-1].position


async def _visible(caller: Caller, entries: list[Entry]) -> list[tuple[Entry, bytes]]:
    if not entries:
        return []
    reposters = [entry.repost.user_id for entry in entries if entry.repost is not None]
    view = await posts.look(caller, [(entry.post_id, entry.author_id) for entry in entries], people=reposters)
    found: list[tuple[Entry, bytes]] = []
    for entry in entries:
        if belongs(caller.user_id, entry, view.relations):
            encoded = view.post(entry.post_id, entry.author_id, entry.repost and entry.repost.user_id)
            if encoded is not None:
                found.append((entry, encoded))
    return found


def belongs(user_id: int, entry: Entry, relations: dict[int, Relation]) -> bool:
    """Whether an entry is for a user's feed, by how they stand to who tells of it, and whose post it is."""
    if not shows_in_feed(relations[entry.teller], own=entry.teller == user_id):
        return False
    # What somebody else reposts comes from no one whom the user has muted, either.
    return entry.repost is None or may_notify(relations[entry.author_id])


def shown_to(post_id: int, user_ids: Sequence[int]) -> dict[int, Entry]:
    """By what entry a post shows in each of these users' feeds, of Postgres; who has it in none is left out.

    Of a post that is reposted much the newest reposts are looked at.
    """
    if not user_ids:
        return {}
    with db.connection() as conn:
        rows = store.OF_POST.all(conn, post_id=post_id, user_ids=list(user_ids), limit=_LOOKED_AT)
    told = [(row.user_id, _entry_of(row)) for row in rows]
    pairs = [(user_id, one) for user_id, entry in told for one in (entry.teller, entry.author_id)]
    relations, there = visibility.among(pairs), profiles.load_cards_sync({one for _, one in pairs})
    shown: dict[int, Entry] = {}
    for user_id, entry in told:
        people = {one: relations[user_id, one] for one in (entry.teller, entry.author_id)}
        if user_id not in shown and people.keys() <= there.keys() and belongs(user_id, entry, people):
            shown[user_id] = entry
    return shown


async def _entries(user_id: int, before: int | None, count: int) -> list[Entry]:
    try:
        found, untold = await projection.read(user_id, before, count)
        if not found.complete and not untold:
            if not await single_flight.shared(FEEDS.key(user_id), lambda: build(user_id)):
                return await _of_postgres(user_id, before, count)
            # Of Redis, which has what was added while it was built.
            found, untold = await projection.read(user_id, before, count)
        if untold:
            await _build_told(untold)
            found, _ = await projection.read(user_id, before, count)
        if found.complete and (found.ended or not found.exhausted):
            return [decoded(entry) for entry in found.entries]
    except cache.CacheUnavailable:
        pass  # Postgres has the feed too
    return await _of_postgres(user_id, before, count)


async def _of_postgres(user_id: int, before: int | None, count: int) -> list[Entry]:
    return await running.on_loop(_entries_in_postgres, user_id, ids.MAX if before is None else before, count)


async def build(user_id: int) -> bool:
    """Build a user's feed in Redis from Postgres, unless more authors are merged into it than may be: then False."""
    (mark,) = await cache.run(FEEDS.begin_building(user_id))
    members = await running.on_loop(_newest, user_id)
    if members is None:
        return False
    await cache.run(FEEDS.fill(user_id, mark, members))
    return True


def newest(user_id: int) -> list[str]:
    """A user's feed as it is kept in Redis, of Postgres: marks, and entries of all whom they don't mark."""
    return _newest(user_id) or []


def _newest(user_id: int) -> list[str] | None:
    """As `newest`; None if more are merged into it than may be, since then it isn't kept."""
    with db.connection() as conn:
        rows = store.MERGED.all(conn, user_id=user_id, limit=MERGED_MOST + 1)
    if len(rows) > MERGED_MOST:
        return None
    merged = sorted((row.id for row in rows), reverse=True)
    entries = _entries_in_postgres(user_id, ids.MAX, FEEDS.keep - len(merged), merged)
    return [*map(mark_of, merged), *[entry.encoded() for entry in entries]]


async def _build_told(authors: list[int]) -> None:
    await asyncio.gather(
        *[single_flight.shared(TOLD.key(author), partial(_build_told_by, author)) for author in authors]
    )


async def _build_told_by(author: int) -> None:
    (mark,) = await cache.run(TOLD.begin_building(author))
    members = await running.on_loop(_told_unless_deleted, author)
    if members is not None:
        await cache.run(TOLD.fill(author, mark, members))


def _told_unless_deleted(author: int) -> list[str] | None:
    # Whose account is deleted has nothing in Redis any more, though feeds have their mark for a moment still: looked at
    # after the building began, since what is erased ends one that began before.
    with db.connection() as conn:
        if store.IS_DELETED.maybe(conn, user_id=author) is not None:
            return None
    return newest_told(author)


def newest_told(author: int) -> list[str]:
    """What an author tells as it is kept in Redis, of Postgres."""
    with db.connection() as conn:
        rows = store.TOLD.all(conn, teller=author, before=ids.MAX, limit=TOLD.keep)
    return [_entry_of(row).encoded() for row in rows]


def _entries_in_postgres(user_id: int, before: int, count: int, leaving_out: Sequence[int] = ()) -> list[Entry]:
    with db.connection() as conn:
        rows = store.OF_USER.all(conn, user_id=user_id, before=before, limit=count, merged=list(leaving_out))
    return [_entry_of(row) for row in rows]


def _entry_of(row: store.EntryRow) -> Entry:
    repost = None if row.reposter_id is None else FeedRepost(row.position, row.reposter_id)
    return Entry(row.post_id, row.author_id, repost)
