"""What a viewer has done with posts and comments: asked of one map a viewer in Redis, Postgres behind it."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from shared.engagement import projection, store
from shared.engagement.model import NOTHING, Engaged, Engagement, Part, ReactionQuery
from shared.kernel import cache, db, guard, ids, running, single_flight
from shared.kernel.endpoint import Encoded
from shared.kernel.pages import PageQuery, refilled
from shared.kernel.recent import Load
from shared.profiles import reads as profiles
from shared.visibility.model import Relation, may_see


def ask(viewer_id: int, subjects: Sequence[int]) -> cache.Command:
    """The command for `take`, so that it shares a trip with others."""
    return projection.ask(viewer_id, subjects)


async def take(viewer_id: int, subjects: Sequence[int], reply: Any) -> dict[int, Engagement]:
    """What the viewer has done with each of `subjects`, in the reply to `ask`; misses, or no reply, from Postgres."""
    taken = None if reply is None else projection.take(subjects, reply)
    if taken is None:
        taken = (None if reply is None else await _filled(viewer_id, subjects)) or ({}, list(subjects))
    found, unknown = taken
    if unknown:
        found |= await single_flight.each(
            f"engaged:{viewer_id}", unknown, lambda missing: _load_unknown(viewer_id, missing)
        )
    return found


async def _filled(viewer_id: int, subjects: Sequence[int]) -> projection.Taken | None:
    try:
        await single_flight.shared(projection.key(viewer_id), lambda: _fill(viewer_id))
        # Of Redis, which has what was changed while the map was loaded.
        (reply,) = await cache.run(projection.ask(viewer_id, subjects))
    except cache.CacheUnavailable:
        return None
    return projection.take(subjects, reply)


async def _fill(viewer_id: int) -> None:
    newest = await running.on_loop(_newest_of, viewer_id)
    await cache.run(projection.fill(viewer_id, newest))


async def _load_unknown(viewer_id: int, subjects: list[int]) -> dict[int, Engagement]:
    rows = await running.on_loop(_rows_of, viewer_id, subjects)
    key = projection.key(viewer_id)
    try:
        _, fields = await cache.run(projection.add(viewer_id, subjects, rows), ("HLEN", key))
        if fields > projection.MAX_FIELDS:
            await cache.run(("DEL", key))
    except cache.CacheUnavailable:
        pass  # the answer is at hand
    return dict.fromkeys(subjects, NOTHING) | {row.subject_id: projection.engagement_of(row) for row in rows}


def _newest_of(viewer_id: int) -> list[store.EngagementRow]:
    with db.connection() as conn:
        return store.NEWEST_OF_USER.all(conn, user_id=viewer_id, limit=projection.FILLED_WITH)


def _rows_of(viewer_id: int, subjects: Sequence[int]) -> list[store.EngagementRow]:
    with db.connection() as conn:
        return store.OF_USER.all(conn, user_id=viewer_id, subjects=list(subjects))


def changed(part: Part, user_id: int, subject_id: int, done: Engagement, version: int) -> list[cache.Command]:
    """The commands that project an engagement, of which `part` was changed."""
    return projection.changed(part, user_id, subject_id, done, version)


def refresh(event: Engaged) -> None:
    """Bring an engagement in Redis up to date. Raises CacheUnavailable, DatabaseUnavailable."""
    if not all(user.active for user in profiles.states_of([event.user_id])):
        return  # of one who has deleted their account nothing is kept
    for row in _rows_of(event.user_id, [event.subject_id]):
        done = projection.engagement_of(row)
        cache.run_sync(*changed(event.part, event.user_id, event.subject_id, done, row.version))


def of_viewers(subject_id: int, viewers: Sequence[int]) -> dict[int, Engagement]:
    """What those among `viewers` who have done anything with a subject have done, of Postgres."""
    with db.connection() as conn:
        rows = store.OF_VIEWERS.all(conn, subject_id=subject_id, viewers=list(viewers))
    return {row.user_id: Engagement(row.emoji, row.saved, row.reposted) for row in rows}


class Act(msgspec.Struct, frozen=True):
    """What a user has done with a subject, or undone (`act_id` null), as of `version`."""

    act_id: int | None
    version: int


def act_of(event: Engaged) -> Act | None:
    """What became of what an event tells of, in Postgres; done again, it has another id. None if it never was."""
    with db.connection() as conn:
        row = store.ACTS.maybe(conn, subject_id=event.subject_id, user_id=event.user_id)
    return None if row is None else Act(getattr(row, event.part), row.version)


def is_reposted(subject_id: int, user_id: int, repost_id: int) -> bool:
    """Whether a repost is still there, in Postgres. One that was undone never is again: it has another id."""
    with db.connection() as conn:
        row = store.ACTS.maybe(conn, subject_id=subject_id, user_id=user_id)
    return row is not None and row.repost == repost_id


def reposts_before(subject_id: int, before: int, limit: int) -> list[tuple[int, int]]:
    """Up to `limit` reposts older than the repost `before`, as (repost, user) ids: for work on all of them."""
    with db.connection() as conn:
        found = store.REPOSTS.all(conn, subject_id=subject_id, before=before, limit=limit)
    return [(act.position, act.user_id) for act in found]


def newest(part: Part, subject_id: int) -> list[store.ActRow]:
    """Who engaged with a subject as it is kept in Redis, of Postgres."""
    statement = store.REACTIONS if part == "reaction" else store.REPOSTS
    with db.connection() as conn:
        return statement.all(conn, subject_id=subject_id, before=ids.MAX, limit=projection.OF_SUBJECT[part].keep)


def fields_of(viewer_id: int, subjects: Sequence[int]) -> dict[str, tuple[int, bytes]]:
    """The fields of a viewer's map, with their versions, of Postgres: those of `subjects`, and of the newest."""
    newest = _newest_of(viewer_id)
    return {
        name: (version, body) for name, version, body in projection.fields([*_rows_of(viewer_id, subjects), *newest])
    }


class Subject(msgspec.Struct, frozen=True):
    """What users engaged with, for the lists of who did.

    `command` rides in the first trip; `see` takes its reply (None where Redis is away) and people, and gives their
    cards and how the viewer stands to them, in the second. It raises NotFound where the viewer may not see the subject.
    """

    id: int
    command: cache.Command
    see: Callable[[Any, Sequence[int]], Awaitable[tuple[dict[int, profiles.Card], dict[int, Relation]]]]


async def reactions(kind: str, subject: Subject, query: ReactionQuery) -> Encoded:
    """A page of who reacted, newest first, whom the viewer may see. Raises NotFound, Invalid for what is no emoji.

    `kind` is the letter of its cursors.
    """
    emoji = query.emoji_wanted()

    def load(before: int, count: int) -> list[store.ActRow]:
        with db.connection() as conn:
            return store.REACTIONS.all(conn, subject_id=subject.id, before=before, limit=count)

    def load_chosen(before: int, count: int) -> list[store.ActRow]:
        with db.connection() as conn:
            return store.REACTIONS_WITH.all(conn, subject_id=subject.id, emoji=emoji, before=before, limit=count)

    if emoji is None:
        return await _page(kind, subject, query, "reaction", load)
    return await _page(kind, subject, query, "reaction", load, lambda act: act.emoji == emoji, load_chosen)


async def reposts(subject: Subject, query: PageQuery) -> Encoded:
    """A page of who reposted, newest first, whom the viewer may see. Raises NotFound."""

    def load(before: int, count: int) -> list[store.ActRow]:
        with db.connection() as conn:
            return store.REPOSTS.all(conn, subject_id=subject.id, before=before, limit=count)

    return await _page("o", subject, query, "repost", load)


async def _page(
    kind: str,
    subject: Subject,
    query: PageQuery,
    part: Part,
    load: Load[store.ActRow],
    chosen: Callable[[store.ActRow], bool] | None = None,
    load_chosen: Load[store.ActRow] | None = None,
) -> Encoded:
    recent = projection.OF_SUBJECT[part]
    reply: Any = None

    async def acts(before: int | None, count: int) -> list[store.ActRow]:
        nonlocal reply
        newest: Any = None
        try:
            newest, reply = await guard.first(recent.ask(subject.id), subject.command)
        except cache.CacheUnavailable:
            pass  # Postgres has the list too
        return await recent.take(subject.id, newest, before, count, load, chosen=chosen, load_chosen=load_chosen)

    async def visible(found: Sequence[store.ActRow]) -> list[tuple[int, bytes]]:
        cards, relations = await subject.see(reply, [act.user_id for act in found])
        return [
            (act.position, _encoded(act, cards[act.user_id]))
            for act in found
            if act.user_id in cards and may_see(relations[act.user_id])
        ]

    return await refilled(kind, query, acts, visible)


def _encoded(act: store.ActRow, card: profiles.Card) -> bytes:
    emoji = b"" if act.emoji is None else b',"emoji":%b' % msgspec.json.encode(act.emoji)
    return b'{"user":%b%b,"at":%d}' % (card.json, emoji, ids.made_at(act.position))
