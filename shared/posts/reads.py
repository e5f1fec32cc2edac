"""Posts as a viewer sees them: cached cards spliced together, never decoded on the way."""

from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec

from shared.engagement import reads as engagement
from shared.engagement.model import NOTHING, Engaged, Engagement
from shared.kernel import cache, db, guard, ids, running, single_flight
from shared.kernel.endpoint import Caller, Encoded, PostId, Username
from shared.kernel.pages import PageQuery, refilled
from shared.kernel.problems import NotFound
from shared.kernel.projection import VERSION_DIGITS, ask_beginning, body_of, version_of
from shared.kernel.remembered import Remembered
from shared.live import publish as live
from shared.posts import projection, store
from shared.posts.model import PostViewer
from shared.profiles import mentions
from shared.profiles import reads as profiles
from shared.visibility import reads as visibility
from shared.visibility.model import Relation, may_see

_AUTHOR: Final = ids.LENGTH
_UNTOUCHED: Final = b'{"reaction":null,"saved":false,"reposted":false}'
_ANYWHERE: Final = ids.MAX
# Whose a post is.
_authors: Final = Remembered[int, int]()
# A post as statements of other features give it.
PostRow = store.PostRow


async def post(viewer: Caller | None, post_id: PostId) -> Encoded:
    """A post as `viewer` may see it. Two round trips, or one where whose it is is remembered. Raises NotFound."""
    author = _authors.get(post_id)
    if author is None:
        author, bodies = await _found(post_id)
        _authors.add({post_id: author})
    else:
        bodies = None
    shown = (await look(viewer, [(post_id, author)], bodies)).post(post_id, author)
    if shown is None:
        raise NotFound("post_not_found")
    return Encoded(shown)


async def _found(post_id: int) -> tuple[int, dict[int, bytes]]:
    try:
        (reply,) = await guard.first(("GET", projection.key(post_id)))
        body = body_of(reply)
    except cache.CacheUnavailable:
        body = None
    if body is None:
        body = (await load_bodies([post_id])).get(post_id)
    if not body:
        raise NotFound("post_not_found")
    return ids.decode(body[:_AUTHOR].decode()), {post_id: body}


class View(msgspec.Struct, frozen=True):
    """Posts and people as one trip found them for a viewer."""

    bodies: dict[int, bytes]
    cards: dict[int, profiles.Card]
    relations: dict[int, Relation]
    # None for a visitor.
    engagements: dict[int, Engagement] | None
    # Those mentioned in posts whom the viewer may not see.
    hidden: dict[int, list[str]]

    def post(self, post_id: int, author: int, reposter: int | None = None) -> bytes | None:
        """A post encoded, as `reposter` shows it where it is a repost; None where the viewer may not see it."""
        body, card = self.bodies.get(post_id), self.cards.get(author)
        by = None if reposter is None else self.cards.get(reposter)
        if not body or card is None or (reposter is not None and by is None):
            return None
        if self.engagements is not None and not may_see(self.relations[author]):
            return None
        done = None if self.engagements is None else self.engagements[post_id]
        return mentions.without(spliced(body, card, done, by), self.hidden.get(post_id, ()))


async def look(
    viewer: Caller | None,
    entries: Sequence[tuple[int, int]],
    bodies: dict[int, bytes] | None = None,
    people: Sequence[int] = (),
) -> View:
    """What is needed to show `entries`, (post, author) ids, in one trip; and of other people who are shown with them.

    `bodies` are the cached posts if they are at hand already; otherwise they are read in the same trip.
    """
    post_ids = list(dict.fromkeys(post_id for post_id, _ in entries))
    named = mentions.expected(post_ids) if bodies is None else await mentions.known(bodies, _AUTHOR)
    users = list(dict.fromkeys([*(author for _, author in entries), *people, *named.values()]))
    commands: list[cache.Command] = [profiles.ask_cards(users)]
    commands += [] if bodies is not None else [("MGET", *[projection.key(post_id) for post_id in post_ids])]
    if viewer is not None:
        commands += [visibility.ask(viewer.user_id, users), engagement.ask(viewer.user_id, post_ids)]
    replies: list[Any]
    try:
        replies = await guard.first(*commands)
    except cache.CacheUnavailable:
        replies = [[None] * len(users), *([] if bodies is not None else [[None] * len(post_ids)]), [None], None]
    if bodies is None:
        bodies = await _take_bodies(post_ids, replies.pop(1))
    cards = await profiles.take_cards(users, replies[0])
    relations = {} if viewer is None else await visibility.take(viewer.user_id, users, replies[1])
    done = None if viewer is None else await engagement.take(viewer.user_id, post_ids, replies[2])
    hidden = await mentions.hidden(bodies, _AUTHOR, mentions.People(viewer, cards, relations), named)
    return View(bodies, cards, relations, done, hidden)


def ask_author(post_id: int) -> cache.Command:
    """The command for `take_author`: the beginning of a post's card, for what hangs on a post."""
    return ask_beginning(projection.key(post_id), ids.LENGTH)


async def take_author(post_id: int, reply: bytes | None) -> int | None:
    """Who made a post, in the reply to `ask_author`; of Postgres on a miss. None if the post is gone."""
    body = (await _take_bodies([post_id], [reply])).get(post_id)
    return ids.decode(body[:_AUTHOR].decode()) if body else None


def ask_there(post_id: int) -> cache.Command:
    """The command for `take_there`. How long a card is, of which many cost less than their MGET."""
    return ("STRLEN", projection.key(post_id))


async def take_there(post_ids: Sequence[int], replies: Sequence[int | None]) -> list[int]:
    """Which of some posts are there, in the replies to their `ask_there`; misses from Postgres in one query."""
    there = [post_id for post_id, length in zip(post_ids, replies, strict=True) if (length or 0) > VERSION_DIGITS]
    missing = [post_id for post_id, length in zip(post_ids, replies, strict=True) if not length]
    if missing:
        there += [post_id for post_id, body in (await load_bodies(missing)).items() if body]
    return there


async def versioned(post_id: int) -> tuple[int, bytes, int]:
    """Who made a post, its encoded core, and the version of that, 0 if it wasn't cached. May be hidden.

    Raises NotFound, CacheUnavailable.
    """
    (reply,) = await cache.run(("GET", projection.key(post_id)))
    body = (await _take_bodies([post_id], [reply])).get(post_id)
    if not body:
        raise NotFound("post_not_found")
    return ids.decode(body[:_AUTHOR].decode()), body[_AUTHOR:], version_of(reply)


def projected(row: PostRow) -> cache.Command:
    """The command that projects a post which a statement of another feature has changed."""
    return projection.card(row)


async def splice(viewer: Caller | None, entries: Sequence[tuple[int, int]]) -> dict[int, bytes]:
    """The encoded posts that `viewer` may see, by id, in one trip. `entries` are (post, author) ids."""
    view = await look(viewer, entries)
    return {post_id: shown for post_id, author in entries if (shown := view.post(post_id, author)) is not None}


def spliced(body: bytes, card: profiles.Card, done: Engagement | None, by: profiles.Card | None = None) -> bytes:
    """A whole post of its cached body, its author's card, what the viewer has done, and the reposter's card."""
    viewer = _viewer(done)
    if by is None:
        return b'%b,"author":%b,"viewer":%b}' % (body[_AUTHOR:-1], card.json, viewer)
    return b'%b,"author":%b,"viewer":%b,"reposted_by":%b}' % (body[_AUTHOR:-1], card.json, viewer, by.json)


def _viewer(done: Engagement | None) -> bytes:
    if done is None:
        return b"null"
    return _UNTOUCHED if done == NOTHING else msgspec.json.encode(PostViewer(done.emoji, done.saved, done.reposted))


async def load_bodies(post_ids: Sequence[int]) -> dict[int, bytes]:
    """Cached bodies made from Postgres in one query, and put in Redis; those being loaded already are waited for."""
    return await single_flight.each("post", post_ids, _load_bodies)


async def _load_bodies(post_ids: list[int]) -> dict[int, bytes]:
    rows = await running.on_loop(projection.load, post_ids)
    try:
        # Cards alone: the lists have what belongs to them.
        await cache.run(*map(projection.card, rows))
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
    user_id = await profiles.resolve(username)

    async def entries(before: int | None, count: int) -> list[store.ListedRow]:
        return [store.ListedRow(post_id, post_id, user_id) for post_id in await _ids_of(user_id, before, count)]

    async def visible(found: Sequence[store.ListedRow]) -> list[tuple[int, bytes]]:
        shown = await splice(viewer, [(row.post_id, user_id) for row in found]) if found else {}
        if not shown:
            # An empty list of someone who is gone or hidden would tell that they were there.
            await profiles.profile_of(viewer, user_id)
        return [(row.position, shown[row.post_id]) for row in found if row.post_id in shown]

    return await refilled("p", query, entries, visible)


async def _ids_of(user_id: int, before: int | None, count: int) -> list[int]:
    timeline = projection.OF_AUTHOR
    asked = timeline.ask(user_id, before, count)
    try:
        found = timeline.take(await guard.first(*asked), count)
        if not found.complete:
            await single_flight.shared(timeline.key(user_id), lambda: build(user_id))
            # Of Redis, which has what was added while it was built.
            found = timeline.take(await cache.run(*asked), count)
        if found.complete and (found.ended or not found.exhausted):
            return [ids.decode(entry) for entry in found.entries]
    except cache.CacheUnavailable:
        pass  # Postgres has the list too
    return await running.on_loop(_ids_in_postgres, user_id, before or _ANYWHERE, count)


async def build(user_id: int) -> None:
    """Fill a user's list in Redis from Postgres."""
    timeline = projection.OF_AUTHOR
    (mark,) = await cache.run(timeline.begin_building(user_id))
    await cache.run(timeline.fill(user_id, mark, await running.on_loop(newest, user_id)))


def newest(user_id: int) -> list[str]:
    """The entries of a user's list as it is kept in Redis, of Postgres."""
    return [ids.encode(post_id) for post_id in _ids_in_postgres(user_id, _ANYWHERE, projection.OF_AUTHOR.keep)]


def _ids_in_postgres(user_id: int, before: int, count: int) -> list[int]:
    with db.connection() as conn:
        return [row.id for row in store.OF_AUTHOR.all(conn, author_id=user_id, before=before, limit=count)]


class Snapshot(msgspec.Struct, frozen=True):
    """A post of Postgres, for background functions that tell many of it.

    `rests`: on itself as last edited, on whose it is, and on those mentioned. `mentioned`: these by their names, null
    for who is gone.
    """

    rests: live.Rests
    body: bytes
    author: profiles.Card
    reposter: profiles.Card | None
    mentioned: dict[str, int | None]

    def seen_by(self, done: Engagement, hidden: Collection[str] = ()) -> bytes:
        """The post encoded, for those who have done `done` with it, and may not see `hidden`."""
        return mentions.without(spliced(self.body, self.author, done, self.reposter), hidden)

    def hidden_from(self, viewers: Sequence[int]) -> dict[int, frozenset[str]]:
        """Whom of those mentioned each of `viewers` may not see; nothing where nobody is mentioned."""
        gone = {name for name, user_id in self.mentioned.items() if user_id is None}
        hidden = {viewer: set(gone) for viewer in viewers} if self.mentioned else {}
        for name, user_id in self.mentioned.items():
            relations = {} if user_id is None else visibility.towards(user_id, viewers)
            for viewer, relation in relations.items():
                if not may_see(relation):
                    hidden[viewer].add(name)
        return {viewer: frozenset(names) for viewer, names in hidden.items()}


def is_there(post_id: int) -> bool:
    """Whether a post is there, of Postgres: hidden or not."""
    return any(row.deleted_at is None for row in projection.load([post_id]))


def snapshot(post_id: int, reposter: int | None = None) -> Snapshot | None:
    """A post, as `reposter` shows it where it is a repost; None if post, author or reposter is gone."""
    rows = projection.load([post_id])
    body = projection.body(rows[0]) if rows else b""
    if not body:
        return None
    people = [rows[0].author_id, *([] if reposter is None else [reposter])]
    cards = profiles.load_cards_sync(people)
    if not all(person in cards for person in people):
        return None
    names = mentions.named_in(body, _AUTHOR)
    there = profiles.named(names)
    by = None if reposter is None else cards[reposter]
    mentioned = {name: there.get(name) for name in names}
    rests = {**dict.fromkeys([*people, *there.values()]), post_id: rows[0].edited_at}
    return Snapshot(rests, body, cards[people[0]], by, mentioned)


def refresh(post_ids: Sequence[int], *, edited: bool = False) -> None:
    """Bring posts in Redis up to date; nobody is told any more what `edited` ones said before.

    Raises CacheUnavailable, DatabaseUnavailable.
    """
    found = projection.load(post_ids)
    commands = [
        *projection.rows(found),
        *projection.to_subscribers(found),
        *(projection.outdated(found) if edited else []),
    ]
    for post_id in post_ids:
        commands += projection.mentioned(projection.load_mentions(post_id))
    cache.run_sync(*commands)


def refresh_cards(post_ids: Sequence[int]) -> None:
    """Bring the cards of posts in Redis up to date: all that comments change of them. Raises as `refresh`."""
    found = projection.load(post_ids)
    cache.run_sync(*map(projection.card, found), *projection.to_subscribers(found))


def refresh_engaged(event: Engaged) -> None:
    """Bring in Redis up to date what an engagement changes of a post. Raises as `refresh`."""
    for row in projection.load([event.subject_id]):
        cache.run_sync(*projection.engaged(row, event.part, event.user_id), *projection.to_subscribers([row]))


class Mention(msgspec.Struct, frozen=True):
    """A mention of a user, or one that was taken out (`act_id` null)."""

    user_id: int
    act_id: int | None
    version: int


def mentions_of(post_id: int) -> list[Mention]:
    """Who is mentioned in a post, or was, of Postgres."""
    return [Mention(row.user_id, row.mention_id, row.version) for row in projection.load_mentions(post_id)]


def author_seen_by(viewer_id: int, post_id: int) -> int | None:
    """Whose post it is, of Postgres; None if it is gone, or hidden from the viewer."""
    rows = projection.load([post_id])
    if not rows or rows[0].deleted_at is not None:
        return None
    author = rows[0].author_id
    seen = may_see(visibility.between(viewer_id, [author])[author]) and profiles.username_of(author) is not None
    return author if seen else None
