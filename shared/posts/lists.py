"""Lists about posts: those that a user saved, reacted to or is mentioned in, and who reacted to one or reposted it."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from shared.engagement import reads as engagement
from shared.engagement.model import ReactionQuery
from shared.kernel import cache, db, guard, ids
from shared.kernel.endpoint import Caller, Encoded, PostId
from shared.kernel.pages import PageQuery, refilled
from shared.kernel.problems import NotFound
from shared.kernel.projection import body_of
from shared.kernel.recent import Recent
from shared.posts import projection, reads, store
from shared.profiles import reads as profiles
from shared.visibility.model import Relation


async def saved(caller: Caller, query: PageQuery) -> Encoded:
    """A page of the posts that the caller saved, latest saved first."""
    return await _page("s", caller, query, projection.SAVED, store.SAVED)


async def reacted(caller: Caller, query: PageQuery) -> Encoded:
    """A page of the posts that the caller reacted to, latest reaction first."""
    return await _page("e", caller, query, projection.REACTED, store.REACTED)


async def mentioning(caller: Caller, query: PageQuery) -> Encoded:
    """A page of the posts that the caller is mentioned in, latest mention first."""
    return await _page("i", caller, query, projection.MENTIONING, store.MENTIONING)


async def reactions(caller: Caller, post_id: PostId, query: ReactionQuery) -> Encoded:
    """A page of who reacted to a post. Raises NotFound, Invalid."""
    return await engagement.reactions("x", _subject(caller, post_id), query)


async def reposts(caller: Caller, post_id: PostId, query: PageQuery) -> Encoded:
    """A page of who reposted a post. Raises NotFound."""
    return await engagement.reposts(_subject(caller, post_id), query)


async def _page(
    kind: str,
    caller: Caller,
    query: PageQuery,
    recent: Recent[store.ListedRow],
    statement: db.Statement[store.ListedRow],
) -> Encoded:
    def load(before: int, count: int) -> list[store.ListedRow]:
        with db.connection() as conn:
            return statement.all(conn, user_id=caller.user_id, before=before, limit=count)

    async def entries(before: int | None, count: int) -> list[store.ListedRow]:
        reply: Any = None
        try:
            (reply,) = await guard.first(recent.ask(caller.user_id))
        except cache.CacheUnavailable:
            pass  # Postgres has the list too
        return await recent.take(caller.user_id, reply, before, count, load)

    async def visible(found: Sequence[store.ListedRow]) -> list[tuple[int, bytes]]:
        if not found:
            return []
        view = await reads.look(caller, [(row.post_id, row.author_id) for row in found])
        return [(row.position, shown) for row in found if (shown := view.post(row.post_id, row.author_id)) is not None]

    return await refilled(kind, query, entries, visible)


def newest(kept: Recent[store.ListedRow], user_id: int) -> list[store.ListedRow]:
    """A user's list as it is kept in Redis, of Postgres."""
    statements = {projection.SAVED.name: store.SAVED, projection.REACTED.name: store.REACTED}
    with db.connection() as conn:
        statement = statements.get(kept.name, store.MENTIONING)
        return statement.all(conn, user_id=user_id, before=ids.MAX, limit=kept.keep)


def _subject(caller: Caller, post_id: int) -> engagement.Subject:
    return engagement.Subject(post_id, ("GET", projection.key(post_id)), partial(_see, caller, post_id))


async def _see(
    caller: Caller, post_id: int, reply: Any, people: Sequence[int]
) -> tuple[dict[int, profiles.Card], dict[int, Relation]]:
    body = body_of(reply)
    if body is None:
        body = (await reads.load_bodies([post_id])).get(post_id)
    if not body:
        raise NotFound("post_not_found")
    author = ids.decode(body[: ids.LENGTH].decode())
    view = await reads.look(caller, [(post_id, author)], {post_id: body}, people)
    if view.post(post_id, author) is None:
        raise NotFound("post_not_found")
    return view.cards, view.relations
