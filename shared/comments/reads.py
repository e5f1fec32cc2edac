"""Comments as a viewer sees them: cached cards spliced together, never decoded on the way.

The first trip asks for the list and what it hangs on, the second for cards, authors and how the viewer stands to them.
Whether the post may be seen decides for all below it.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec

from shared.comments import projection, store
from shared.comments.model import CommentViewer
from shared.comments.projection import LISTS, NOBODY, author_of
from shared.engagement import reads as engagement
from shared.engagement.model import NOTHING, Engagement
from shared.kernel import cache, db, guard, ids, running, single_flight
from shared.kernel.endpoint import Caller, CommentId, Encoded, PostId
from shared.kernel.pages import PageQuery, refilled
from shared.kernel.problems import NotFound
from shared.kernel.projection import ask_beginning, body_of, version_of
from shared.posts import reads as posts
from shared.profiles import mentions
from shared.profiles import reads as profiles
from shared.visibility import reads as visibility

# Asked for beyond a page, so that what the gate takes out seldom costs a third trip.
_SPARE: Final = 5
_UNTOUCHED: Final = b'{"reaction":null}'


class Gate(msgspec.Struct, frozen=True):
    """What has to be visible for what hangs on it to be: a post and its author, and perhaps a comment's author."""

    post_id: int
    post_author: int
    author: int = NOBODY

    def people(self) -> list[int]:
        """Those whom the viewer has to be able to see."""
        return [self.post_author] if self.author == NOBODY else [self.post_author, self.author]


class View(msgspec.Struct, frozen=True):
    """Comments and people as one trip found them for a viewer."""

    bodies: dict[int, bytes]
    people: mentions.People
    # None for a visitor.
    done: dict[int, Engagement] | None
    # Those mentioned in comments whom the viewer may not see.
    hidden: dict[int, list[str]]

    def comment(self, comment_id: int) -> bytes | None:
        """A comment or tombstone encoded; None where the viewer may not see it."""
        body = self.bodies.get(comment_id)
        if not body:
            return None
        author = author_of(body)
        done = None if self.done is None else self.done[comment_id]
        if author == NOBODY:
            return projection.spliced(body, b"null", _viewer(done and NOTHING))
        if not self.people.sees(author):
            return None
        return mentions.without(spliced(body, self.people.cards[author], done), self.hidden.get(comment_id, ()))


async def comment(viewer: Caller | None, comment_id: CommentId) -> Encoded:
    """A comment, or its tombstone, as `viewer` may see it. Two round trips. Raises NotFound."""
    try:
        (reply,) = await guard.first(("GET", projection.key(comment_id)))
    except cache.CacheUnavailable:
        reply = None
    body = await there(comment_id, reply)
    gate = gate_of(body)
    view = await look(viewer, gate, [store.EntryRow(comment_id, gate.author)], {comment_id: body})
    shown = None if view is None else view.comment(comment_id)
    if shown is None:
        raise NotFound("comment_not_found")
    return Encoded(shown)


async def of_post(viewer: Caller | None, post_id: PostId, query: PageQuery) -> Encoded:
    """A page of the comments on a post, newest first. Raises NotFound."""

    async def gate(reply: bytes | None) -> Gate:
        author = await posts.take_author(post_id, reply)
        if author is None:
            raise NotFound("post_not_found")
        return Gate(post_id, author)

    return await _page("c", viewer, post_id, query, posts.ask_author(post_id), gate, "post_not_found")


async def replies(viewer: Caller | None, comment_id: CommentId, query: PageQuery) -> Encoded:
    """A page of the replies to a comment, newest first. Raises NotFound."""

    async def gate(reply: bytes | None) -> Gate:
        return gate_of(await there(comment_id, reply))

    asked = ("GET", projection.key(comment_id))
    return await _page("y", viewer, comment_id, query, asked, gate, "comment_not_found")


async def there(comment_id: int, reply: bytes | None) -> bytes:
    """A cached comment, of the reply to a GET of its card; of Postgres on a miss. Raises NotFound if it is gone."""
    body = body_of(reply)
    if body is None:
        body = (await load_bodies([comment_id])).get(comment_id)
    if not body:
        raise NotFound("comment_not_found")
    return body


async def versioned(comment_id: int) -> tuple[Gate, bytes, int]:
    """What a comment hangs on, its encoded core, and the version of that, 0 if it wasn't cached. May be hidden.

    Raises NotFound, CacheUnavailable.
    """
    (reply,) = await cache.run(("GET", projection.key(comment_id)))
    body = await there(comment_id, reply)
    return gate_of(body), projection.core_in(body), version_of(reply)


def gate_of(body: bytes) -> Gate:
    """What has to be visible for a comment to be."""
    post_author, post_id = projection.post_of(body)
    return Gate(post_id, post_author, author_of(body))


async def _page(
    kind: str,
    viewer: Caller | None,
    subject: int,
    query: PageQuery,
    asked: cache.Command,
    open_gate: Callable[[bytes | None], Awaitable[Gate]],
    absent: str,
) -> Encoded:
    reply: bytes | None = None

    async def entries(before: int | None, count: int) -> Sequence[store.EntryRow]:
        nonlocal reply
        found, reply = await _entries(subject, before, count + _SPARE, asked)
        return found

    async def visible(found: Sequence[store.EntryRow]) -> list[tuple[int, bytes]]:
        view = await look(viewer, await open_gate(reply), found)
        if view is None:
            raise NotFound(absent)
        return [(entry.position, shown) for entry in found if (shown := view.comment(entry.position)) is not None]

    return await refilled(kind, query, entries, visible)


async def _entries(
    subject: int, before: int | None, count: int, also: cache.Command
) -> tuple[list[store.EntryRow], bytes | None]:
    """Up to `count` entries older than `before`, and the reply to what is asked with them."""
    asked = LISTS.ask(subject, before, count)
    reply: bytes | None = None
    try:
        reply, *replies = await guard.first(also, *asked)
        found = LISTS.take(replies, count)
        if not found.complete:
            await single_flight.shared(LISTS.key(subject), lambda: build(subject))
            # Of Redis, which has what was added while it was built.
            found = LISTS.take(await cache.run(*asked), count)
        if found.complete and (found.ended or not found.exhausted):
            return [projection.entry_of(member) for member in found.entries], reply
    except cache.CacheUnavailable:
        pass  # Postgres has the list too
    return await running.on_loop(_entries_in_postgres, subject, ids.MAX if before is None else before, count), reply


async def build(subject: int) -> None:
    """Fill the list of a post or comment in Redis from Postgres."""
    (mark,) = await cache.run(LISTS.begin_building(subject))
    await cache.run(LISTS.fill(subject, mark, await running.on_loop(newest, subject)))


def newest(subject: int) -> list[str]:
    """The list of a post or comment as it is kept in Redis, of Postgres."""
    entries = _entries_in_postgres(subject, ids.MAX, LISTS.keep)
    return [projection.member_of(entry.position, entry.author_id) for entry in entries]


def _entries_in_postgres(subject: int, before: int, count: int) -> list[store.EntryRow]:
    with db.connection() as conn:
        return store.OF_SUBJECT.all(conn, subject_id=subject, before=before, limit=count)


async def look(
    viewer: Caller | None,
    gate: Gate,
    entries: Sequence[store.EntryRow] = (),
    bodies: dict[int, bytes] | None = None,
    people: Sequence[int] = (),
) -> View | None:
    """What is needed to show `entries`, and other people, in one trip; None where the gate is closed.

    `bodies` are the cached comments if they are at hand already; otherwise they are read in the same trip.
    """
    authors = [entry.author_id for entry in entries if entry.author_id != NOBODY]
    comment_ids = [entry.position for entry in entries]
    named = mentions.expected(comment_ids) if bodies is None else await mentions.known(bodies, projection.HEAD)
    users = list(dict.fromkeys([*gate.people(), *authors, *people, *named.values()]))
    commands: list[cache.Command] = [profiles.ask_cards(users), posts.ask_author(gate.post_id)]
    commands += [] if bodies is not None or not entries else [("MGET", *map(projection.key, comment_ids))]
    if viewer is not None:
        commands += [visibility.ask(viewer.user_id, users), engagement.ask(viewer.user_id, comment_ids)]
    replies: list[Any]
    try:
        replies = await cache.run(*commands)
    except cache.CacheUnavailable:
        unread = [] if bodies is not None or not entries else [[None] * len(entries)]
        replies = [[None] * len(users), None, *unread, [None], None]
    if bodies is None:
        bodies = await _take_bodies(comment_ids, replies.pop(2)) if entries else {}
    cards = await profiles.take_cards(users, replies[0])
    relations = {} if viewer is None else await visibility.take(viewer.user_id, users, replies[2])
    everybody = mentions.People(viewer, cards, relations)
    if not all(map(everybody.sees, gate.people())) or await posts.take_author(gate.post_id, replies[1]) is None:
        return None
    done = None if viewer is None else await engagement.take(viewer.user_id, comment_ids, replies[3])
    hidden = await mentions.hidden(bodies, projection.HEAD, everybody, named)
    return View(bodies, everybody, done, hidden)


def spliced(body: bytes, card: profiles.Card, done: Engagement | None) -> bytes:
    """A whole comment of its cached form, its author's card, and what the viewer has done; None for a visitor."""
    return projection.spliced(body, card.json, _viewer(done))


def _viewer(done: Engagement | None) -> bytes:
    if done is None:
        return b"null"
    return _UNTOUCHED if done == NOTHING else msgspec.json.encode(CommentViewer(done.emoji))


def ask_there(comment_id: int) -> cache.Command:
    """The command for `take_there`: the beginning of a comment's card, with its author."""
    return ask_beginning(projection.key(comment_id), ids.LENGTH)


async def take_there(comment_ids: Sequence[int], replies: Sequence[bytes | None]) -> list[int]:
    """Which of some comments are there, in the replies to their `ask_there`; misses from Postgres in one query.

    What was deleted is not, tombstones neither.
    """
    bodies = await _take_bodies(comment_ids, replies)
    return [comment_id for comment_id, body in bodies.items() if body and author_of(body) != NOBODY]


async def load_bodies(comment_ids: Sequence[int]) -> dict[int, bytes]:
    """Cached bodies made from Postgres in one query, and put in Redis; those being loaded already are waited for."""
    return await single_flight.each("comment", comment_ids, _load_bodies)


async def _load_bodies(comment_ids: list[int]) -> dict[int, bytes]:
    rows = await running.on_loop(projection.load, comment_ids)
    try:
        await cache.run(*map(projection.card, rows))
    except cache.CacheUnavailable:
        pass  # the answer is at hand; a later read fills the cache
    return {row.id: projection.body(row) for row in rows}


async def _take_bodies(comment_ids: Sequence[int], reply: Sequence[bytes | None]) -> dict[int, bytes]:
    asked = zip(comment_ids, map(body_of, reply), strict=True)
    found = {comment_id: body for comment_id, body in asked if body is not None}
    missing = [comment_id for comment_id in comment_ids if comment_id not in found]
    if missing:
        found.update(await load_bodies(missing))
    return found


def refresh(comment_ids: Sequence[int]) -> None:
    """Bring comments in Redis up to date, and their lists. Raises CacheUnavailable, DatabaseUnavailable."""
    found = projection.load(comment_ids)
    cache.run_sync(*projection.rows(found), *projection.to_subscribers(found))


def refresh_cards(comment_ids: Sequence[int]) -> None:
    """Bring in Redis up to date what reactions change of comments. Raises as `refresh`."""
    found = projection.load(comment_ids)
    cache.run_sync(*map(projection.card, found), *projection.to_subscribers(found))


def below(author_id: int, post_id: int, after: int, last_post_id: int, limit: int) -> list[store.BelowRow]:
    """What is said on an author's posts, of Postgres, from past the comment `after` on a post to another post's last.

    Also where the posts were deleted, or nobody sees them just now.
    """
    with db.connection() as conn:
        return store.BELOW.all(
            conn, author_id=author_id, post_id=post_id, after=after, last_post_id=last_post_id, limit=limit
        )


class Told(msgspec.Struct, frozen=True):
    """What others are told of a comment as it is by now, of Postgres.

    `on_post` and `in_reply` are what its author said in all to the post's owner, and to whom it replies: the newest
    comment that still stands, None if none does, and a version of that. `on_post` is None for a reply to the owner.
    """

    author: int
    post_id: int
    post_author: int
    parent_id: int | None
    parent_author: int | None
    mentions: list[str]
    deleted: bool
    version: int
    on_post: store.SaidRow | None
    in_reply: store.SaidRow | None


def told_of(comment_id: int) -> Told | None:
    """What others are told of a comment; None if there never was one."""
    with db.connection() as conn:
        rows = store.BY_IDS.all(conn, ids=[comment_id])
        if not rows:
            return None
        row = rows[0]
        where = {"author_id": row.author_id, "post_id": row.post_id}
        parents = [] if row.parent_id is None else store.BY_IDS.all(conn, ids=[row.parent_id])
        in_reply = store.SAID_IN_REPLY.one(conn, parent_id=row.parent_id, **where) if parents else None
        to_owner = any(parent.author_id == row.post_author_id for parent in parents)
        on_post = None if to_owner else store.SAID_ON_POST.one(conn, **where)
    return Told(
        author=row.author_id,
        post_id=row.post_id,
        post_author=row.post_author_id,
        parent_id=row.parent_id,
        parent_author=parents[0].author_id if parents else None,
        mentions=row.mentions,
        deleted=row.deleted_at is not None,
        # Grows with each edit, and not with what others do to the comment.
        version=row.deleted_at or row.edited_at or row.created_at,
        on_post=on_post,
        in_reply=in_reply,
    )


def author_seen_by(viewer_id: int, comment_id: int) -> int | None:
    """Whose comment it is, of Postgres; None if it is gone, or hidden from the viewer."""
    with db.connection() as conn:
        seen = store.SEEN.maybe(conn, id=comment_id, user_id=viewer_id)
    return seen.comment.author_id if seen is not None and seen.visible and seen.comment.deleted_at is None else None
