"""Lists of users, newest first: entries in the first trip with the guard, cards and relations in a second.

Redis has the newest of each list; what is older is an index range of Postgres, under the same cursor.
"""

from collections.abc import Callable, Sequence
from functools import cache as remembered
from typing import Any, Final

import msgspec

from shared.kernel import cache, db, guard, ids, running, single_flight
from shared.kernel.endpoint import Caller, Encoded, Username
from shared.kernel.pages import PageQuery, cursor, join
from shared.kernel.problems import NotFound
from shared.kernel.timeline import Timeline
from shared.profiles import projection, reads, store
from shared.visibility import followed_by
from shared.visibility import reads as visibility
from shared.visibility.model import Relation, lists_as_blocked, lists_as_muted, may_see

# Asked for beyond a page, so that what the gate takes out seldom costs a third trip.
_SPARE: Final = 5
# Where it takes out many in a row, each trip asks for twice as many as the one before.
_MOST: Final = 400

Shows = Callable[[Relation], bool]


class UserList(msgspec.Struct, frozen=True):
    """A kind of list: the letter of its cursors, where it is, and whom it shows by how the viewer stands to them."""

    letter: str
    timeline: Timeline
    statement: db.Statement[store.EntryRow]
    shows: Shows


FOLLOWERS: Final = UserList("r", projection.FOLLOWERS, store.FOLLOWERS, may_see)
FOLLOWING: Final = UserList("g", projection.FOLLOWING, store.FOLLOWING, may_see)
BLOCKED: Final = UserList("b", projection.BLOCKED, store.BLOCKED, lists_as_blocked)
MUTED: Final = UserList("m", projection.MUTED, store.MUTED, lists_as_muted)


async def of_user(caller: Caller, username: Username, which: UserList, query: PageQuery) -> Encoded:
    """A page of a user's list, as the caller may see it. Raises NotFound where they may not see the user."""
    before = query.before(which.letter)
    return await _page(caller, await reads.resolve(username), which, query.limit, before)


async def own(caller: Caller, which: UserList, query: PageQuery) -> Encoded:
    """A page of a list of the caller's own."""
    return await _page(caller, caller.user_id, which, query.limit, query.before(which.letter))


async def _page(caller: Caller, owner: int, which: UserList, limit: int, before: int | None) -> Encoded:
    shown: list[tuple[int, bytes]] = []
    wanted = limit + 1 + _SPARE
    while True:
        entries = await _entries(which, owner, before, wanted)
        shown += await _visible(caller, owner, which.shows, entries)
        if len(shown) > limit or len(entries) < wanted:
            break
        before = entries[-1][0]
        wanted = min(2 * wanted, _MOST)
    page = shown[:limit]
    following = cursor(which.letter, page[-1][0]) if len(shown) > limit else None
    return join([encoded for _, encoded in page], following)


async def _visible(
    caller: Caller, owner: int, shows: Shows, entries: Sequence[tuple[int, int]]
) -> list[tuple[int, bytes]]:
    """The entries that the caller is shown, with their positions. Raises NotFound where the owner is hidden or gone."""
    people = list(dict.fromkeys([owner, *[user_id for _, user_id in entries]]))
    me = caller.user_id
    try:
        replies: list[Any] = await cache.run(
            reads.ask_cards(people), visibility.ask(me, people), followed_by.ask(me, people)
        )
    except cache.CacheUnavailable:
        replies = [[None] * len(people), [None], [None] * len(people)]
    cards = await reads.take_cards(people, replies[0])
    relations = await visibility.take(me, people, replies[1])
    followers = await followed_by.take(me, people, replies[2])
    if owner not in cards or not may_see(relations[owner]):
        raise NotFound("user_not_found")
    shown: list[tuple[int, bytes]] = []
    for position, user_id in entries:
        card = cards.get(user_id)
        if card is not None and shows(relations[user_id]):
            seen = _encoded_viewer(relations[user_id], user_id in followers)
            shown.append((position, b'{"user":%b,"viewer":%b}' % (card.json, seen)))
    return shown


@remembered
def _encoded_viewer(relation: Relation, followed_by: bool) -> bytes:
    return msgspec.json.encode(reads.viewer_flags(relation, followed_by=followed_by))


async def _entries(which: UserList, owner: int, before: int | None, count: int) -> list[tuple[int, int]]:
    """Up to `count` entries older than the position `before`, as (position, user); fewer at the end of the list."""
    timeline = which.timeline
    asked = timeline.ask(owner, before, count)
    try:
        found = timeline.take(await guard.first(*asked), count)
        if not found.complete:
            await single_flight.shared(timeline.key(owner), lambda: _build(which, owner))
            # Of Redis, which has what was added while it was built.
            found = timeline.take(await cache.run(*asked), count)
        if found.complete and (found.ended or not found.exhausted):
            return [projection.parts_of(entry) for entry in found.entries]
    except cache.CacheUnavailable:
        pass  # Postgres has the list too
    return await running.on_loop(_in_postgres, which, owner, ids.MAX if before is None else before, count)


async def _build(which: UserList, owner: int) -> None:
    (mark,) = await cache.run(which.timeline.begin_building(owner))
    await cache.run(which.timeline.fill(owner, mark, await running.on_loop(newest, which, owner)))


def newest(which: UserList, owner: int) -> list[str]:
    """A list as it is kept in Redis, of Postgres."""
    found = _in_postgres(which, owner, ids.MAX, which.timeline.keep)
    return [projection.entry_of(position, user_id) for position, user_id in found]


def _in_postgres(which: UserList, owner: int, before: int, count: int) -> list[tuple[int, int]]:
    with db.connection() as conn:
        rows = which.statement.all(conn, owner=owner, before=before, limit=count)
    return [(row.position, row.user_id) for row in rows]
