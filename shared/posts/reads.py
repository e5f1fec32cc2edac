"""Posts as a viewer sees them: cached cards spliced together, never decoded on the way."""

from collections.abc import Sequence
from typing import Final

import msgspec

from shared.kernel import cache, db, guard, ids, running, single_flight
from shared.kernel.endpoint import Caller, Encoded, PostId, Username
from shared.kernel.pages import PageQuery, cursor, join
from shared.kernel.problems import NotFound
from shared.kernel.projection import body_of
from shared.posts import projection, store
from shared.profiles import reads as profiles
from shared.visibility import reads as visibility
from shared.visibility.model import Relation, may_see

_AUTHOR: Final = ids.LENGTH
# Nobody can react to, save or repost anything yet; those endpoints fill these in.
_VIEWER: Final = b'{"reaction":null,"saved":false,"reposted":false}'
_ANYWHERE: Final = ids.MAX


async def post(viewer: Caller | None, post_id: PostId) -> Encoded:
    """A post as `viewer` may see it. Two round trips. Raises NotFound."""
    try:
        (reply,) = await guard.first(("GET", projection.key(post_id)))
        body = body_of(reply)
    except cache.CacheUnavailable:
        body = None
    if body is None:
        body = (await load_bodies([post_id])).get(post_id)
    if not body:
        raise NotFound("post_not_found")
    shown = await splice(viewer, [(post_id, ids.decode(body[:_AUTHOR].decode()))], {post_id: body})
    if not shown:
        raise NotFound("post_not_found")
    return Encoded(shown[post_id])


async def splice(
    viewer: Caller | None, entries: Sequence[tuple[int, int]], bodies: dict[int, bytes] | None = None
) -> dict[int, bytes]:
    """The encoded posts that `viewer` may see, by id, in one trip. `entries` are (post, author) ids.

    `bodies` are the cached posts if they are at hand already; otherwise they are read in the same trip.
    """
    shown, _ = await splice_with_relations(viewer, entries, bodies)
    return shown


async def splice_with_relations(
    viewer: Caller | None, entries: Sequence[tuple[int, int]], bodies: dict[int, bytes] | None = None
) -> tuple[dict[int, bytes], dict[int, Relation]]:
    """As `splice`, and how the viewer stands to each author."""
    authors = list(dict.fromkeys(author for _, author in entries))
    commands: list[cache.Command] = [profiles.ask_cards(authors)]
    commands += [] if viewer is None else [visibility.ask(viewer.user_id, authors)]
    commands += [] if bodies is not None else [("MGET", *[projection.key(post_id) for post_id, _ in entries])]
    try:
        replies = await cache.run(*commands)
    except cache.CacheUnavailable:
        replies = [
            [None] * len(authors),
            *([[None]] if viewer else []),
            *([[None] * len(entries)] if bodies is None else []),
        ]
    if bodies is None:
        bodies = await _take_bodies([post_id for post_id, _ in entries], replies[-1])
    cards = await profiles.take_cards(authors, replies[0])
    relations = {} if viewer is None else await visibility.take(viewer.user_id, authors, replies[1])
    shown: dict[int, bytes] = {}
    for post_id, author in entries:
        body, card = bodies.get(post_id), cards.get(author)
        if body and card and (viewer is None or may_see(relations[author])):
            shown[post_id] = spliced(body, card, by_visitor=viewer is None)
    return shown, relations


def spliced(body: bytes, card: profiles.Card, *, by_visitor: bool) -> bytes:
    """A whole post of its cached body and its author's card."""
    viewer = b"null" if by_visitor else _VIEWER
    return b'%b,"author":%b,"viewer":%b}' % (body[_AUTHOR:-1], card.json, viewer)


async def load_bodies(post_ids: Sequence[int]) -> dict[int, bytes]:
    """Cached bodies made from Postgres in one query, and put in Redis; those being loaded already are waited for."""
    return await single_flight.each("post", post_ids, _load_bodies)


async def _load_bodies(post_ids: list[int]) -> dict[int, bytes]:
    rows = await running.in_thread(projection.load, post_ids)
    try:
        await cache.run(*projection.rows(rows))
    except cache.CacheUnavailable:
        pass  # the answer is at hand; a later read fills the cache
    return {row.id: projection.body(row) for row in rows}


async def _take_bodies(post_ids: Sequence[int], reply: Sequence[bytes | None]) -> dict[int, bytes]:
    bodies = {
        post_id: body for post_id, value in zip(post_ids, reply, strict=True) if (body := body_of(value)) is not None
    }
    missing = [post_id for post_id in post_ids if post_id not in bodies]
    if missing:
        bodies.update(await load_bodies(missing))
    return bodies


async def of_user(viewer: Caller | None, username: Username, query: PageQuery) -> Encoded:
    """A page of a user's posts, newest first. Raises NotFound."""
    before = query.before("p")
    user_id = await profiles.resolve(username)
    post_ids = await _ids_of(user_id, before, query.limit + 1)
    following = cursor("p", post_ids[query.limit - 1]) if len(post_ids) > query.limit else None
    page = post_ids[: query.limit]
    if not page:
        # An empty list of someone who is gone or hidden would tell that they were there.
        await profiles.profile_of(viewer, user_id)
        return join([], None)
    shown = await splice(viewer, [(post_id, user_id) for post_id in page])
    if not shown:
        await profiles.profile_of(viewer, user_id)
    return join([shown[post_id] for post_id in page if post_id in shown], following)


async def _ids_of(user_id: int, before: int | None, count: int) -> list[int]:
    timeline = projection.OF_AUTHOR
    asked = timeline.ask(user_id, before, count)
    try:
        found = timeline.take(await guard.first(*asked), count)
        if not found.complete:
            await single_flight.shared(timeline.key(user_id), lambda: build(user_id))
            # Of Redis, which has what was added while it was built.
            found = timeline.take(await cache.run(*asked), count)
        if found.complete and (not found.exhausted or (before is None and len(found.entries) < timeline.keep)):
            return [ids.decode(entry) for entry in found.entries]
    except cache.CacheUnavailable:
        pass  # Postgres has the list too
    return await running.in_thread(_ids_in_postgres, user_id, before or _ANYWHERE, count)


async def build(user_id: int) -> None:
    """Fill a user's list in Redis from Postgres."""
    timeline = projection.OF_AUTHOR
    (mark,) = await cache.run(timeline.begin_building(user_id))
    await cache.run(timeline.fill(user_id, mark, await running.in_thread(newest, user_id)))


def newest(user_id: int) -> list[str]:
    """The entries of a user's list as it is kept in Redis, of Postgres."""
    return [ids.encode(post_id) for post_id in _ids_in_postgres(user_id, _ANYWHERE, projection.OF_AUTHOR.keep)]


def _ids_in_postgres(user_id: int, before: int, count: int) -> list[int]:
    with db.connection() as conn:
        return [row.id for row in store.OF_AUTHOR.all(conn, author_id=user_id, before=before, limit=count)]


def snapshot(post_id: int) -> tuple[bytes, int] | None:
    """A post as its followers first see it, encoded, and its author's id; None if post or author is gone.

    Of Postgres, for background functions.
    """
    rows = projection.load([post_id])
    body = projection.body(rows[0]) if rows else b""
    if not body:
        return None
    author = rows[0].author_id
    card = profiles.load_cards_sync([author]).get(author)
    return None if card is None else (spliced(body, card, by_visitor=False), author)


def refresh(post_ids: Sequence[int]) -> None:
    """Bring posts in Redis up to date. Raises CacheUnavailable, DatabaseUnavailable."""
    cache.run_sync(*projection.rows(projection.load(post_ids)))


class Mentions(msgspec.Struct, frozen=True):
    """Who is mentioned in a post, as of `version`."""

    mentions: list[str]
    deleted: bool
    version: int


def mentions_of(post_id: int) -> Mentions | None:
    """Who is mentioned in a post, of Postgres, deleted ones too; None if there never was one."""
    rows = projection.load([post_id])
    return Mentions(rows[0].mentions, rows[0].deleted_at is not None, rows[0].version) if rows else None
