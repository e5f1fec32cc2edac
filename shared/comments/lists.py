"""Lists about comments: the posts that a user commented on, and who reacted to a comment."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from shared.comments import projection, reads, store
from shared.comments.projection import COMMENTED, NOBODY
from shared.engagement import reads as engagement
from shared.engagement.model import ReactionQuery
from shared.kernel import db, moving
from shared.kernel.endpoint import Caller, CommentId, Encoded
from shared.kernel.pages import PageQuery
from shared.kernel.problems import NotFound
from shared.posts import reads as posts
from shared.profiles import reads as profiles
from shared.visibility.model import Relation


async def commented(caller: Caller, query: PageQuery) -> Encoded:
    """A page of the posts that the caller commented on, each once, newest comment first."""

    async def visible(found: Sequence[store.CommentedRow]) -> list[tuple[int, bytes]]:
        shown = await posts.splice(caller, [(row.post_id, row.author_id) for row in found]) if found else {}
        return [(row.position, shown[row.post_id]) for row in found if row.post_id in shown]

    return await moving.page("d", query, COMMENTED, caller.user_id, partial(_commented, caller.user_id), visible)


def newest(user_id: int) -> list[store.CommentedRow]:
    """The posts that a user commented on as they are kept in Redis, of Postgres."""
    return _commented(user_id, moving.Walk(), COMMENTED.keep)


def _commented(user_id: int, walk: moving.Walk, count: int) -> list[store.CommentedRow]:
    with db.connection() as conn:
        return store.COMMENTED.all(conn, user_id=user_id, limit=count, **walk.parameters())


async def reactions(caller: Caller, comment_id: CommentId, query: ReactionQuery) -> Encoded:
    """A page of who reacted to a comment. Raises NotFound, Invalid."""
    command = ("GET", projection.key(comment_id))
    subject = engagement.Subject(comment_id, command, partial(_see, caller, comment_id))
    return await engagement.reactions("k", subject, query)


async def _see(
    caller: Caller, comment_id: int, reply: Any, people: Sequence[int]
) -> tuple[dict[int, profiles.Card], dict[int, Relation]]:
    gate = reads.gate_of(await reads.there(comment_id, reply))
    view = await reads.look(caller, gate, people=people)
    if view is None or gate.author == NOBODY:
        raise NotFound("comment_not_found")
    return view.people.cards, view.people.relations
