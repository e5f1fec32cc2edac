"""The feed: entries in one round trip to Redis with the guard, posts, authors and relations in a second."""

from typing import Final

from shared.feed import store
from shared.feed.model import FEEDS, entry_of, parts_of
from shared.kernel import cache, db, guard, ids, running, single_flight
from shared.kernel.endpoint import Caller, Encoded
from shared.kernel.pages import PageQuery, cursor, join
from shared.posts import reads as posts
from shared.visibility.model import shows_in_feed

# Asked for beyond a page, so that what the gate takes out seldom costs a third trip.
_SPARE: Final = 5


async def page(caller: Caller, query: PageQuery) -> Encoded:
    """A page of the caller's feed, newest first, refilled for what the gate took out."""
    before = query.before("f")
    items: list[bytes] = []
    while True:
        wanted = query.limit - len(items) + 1 + _SPARE
        entries = await _entries(caller.user_id, before, wanted)
        for position, encoded in await _visible(caller, entries):
            if len(items) == query.limit:
                return join(items, cursor("f", before or 0))
            items.append(encoded)
            before = position
        if len(entries) < wanted:
            return join(items, None)
        before = parts_of(entries[-1])[0] if len(items) < query.limit else before
        if len(items) == query.limit:
            return join(items, cursor("f", before or 0))


async def _visible(caller: Caller, entries: list[str]) -> list[tuple[int, bytes]]:
    if not entries:
        return []
    parts = [parts_of(entry) for entry in entries]
    shown, relations = await posts.splice_with_relations(caller, [(post_id, author) for _, post_id, author in parts])
    return [
        (position, shown[post_id])
        for position, post_id, author in parts
        if post_id in shown and shows_in_feed(relations[author], own=author == caller.user_id)
    ]


async def _entries(user_id: int, before: int | None, count: int) -> list[str]:
    asked = FEEDS.ask(user_id, before, count)
    try:
        found = FEEDS.take(await guard.first(*asked), count)
        if not found.complete:
            await single_flight.shared(FEEDS.key(user_id), lambda: build(user_id))
            # Of Redis, which has what was added while it was built.
            found = FEEDS.take(await cache.run(*asked), count)
        if found.complete and (not found.exhausted or before is None):
            # A whole timeline shorter than what it keeps is the whole feed: no need to look behind it.
            return found.entries
    except cache.CacheUnavailable:
        pass  # Postgres has the feed too
    return await running.in_thread(_entries_in_postgres, user_id, ids.MAX if before is None else before, count)


async def build(user_id: int) -> None:
    """Build a user's feed in Redis from Postgres."""
    (mark,) = await cache.run(FEEDS.begin_building(user_id))
    await cache.run(FEEDS.fill(user_id, mark, await running.in_thread(newest, user_id)))


def newest(user_id: int) -> list[str]:
    """The entries of a user's feed as it is kept in Redis, of Postgres."""
    return _entries_in_postgres(user_id, ids.MAX, FEEDS.keep)


def _entries_in_postgres(user_id: int, before: int, count: int) -> list[str]:
    with db.connection() as conn:
        rows = store.OF_USER.all(conn, user_id=user_id, before=before, limit=count)
    return [entry_of(row.post_id, row.author_id) for row in rows]
