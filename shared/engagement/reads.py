"""What a viewer has done with posts and comments: asked of one map a viewer in Redis, Postgres behind it."""

from collections.abc import Sequence
from typing import Any

from shared.engagement import projection, store
from shared.engagement.model import NOTHING, Engagement
from shared.kernel import cache, db, running, single_flight


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
    newest = await running.in_thread(_newest_of, viewer_id)
    await cache.run(projection.fill(viewer_id, newest))


async def _load_unknown(viewer_id: int, subjects: list[int]) -> dict[int, Engagement]:
    rows = await running.in_thread(_rows_of, viewer_id, subjects)
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


def changed(user_id: int, subject_id: int, done: Engagement, version: int) -> cache.Command:
    """The command that projects an engagement into its user's map."""
    return projection.put(user_id, subject_id, done, version)


def refresh(user_id: int, subject_id: int) -> None:
    """Bring an engagement in Redis up to date. Raises CacheUnavailable, DatabaseUnavailable."""
    rows = _rows_of(user_id, [subject_id])
    cache.run_sync(*[changed(user_id, subject_id, projection.engagement_of(row), row.version) for row in rows])


def of_viewers(subject_id: int, viewers: Sequence[int]) -> dict[int, Engagement]:
    """What those among `viewers` who have done anything with a subject have done, of Postgres."""
    with db.connection() as conn:
        rows = store.OF_VIEWERS.all(conn, subject_id=subject_id, viewers=list(viewers))
    return {row.user_id: Engagement(row.emoji, row.saved, row.reposted) for row in rows}


def is_reposted(subject_id: int, user_id: int, repost_id: int) -> bool:
    """Whether a repost is still there, in Postgres. One that was undone never is again: it has another id."""
    with db.connection() as conn:
        return store.REPOST.maybe(conn, subject_id=subject_id, user_id=user_id, repost_id=repost_id) is not None
