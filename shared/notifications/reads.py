"""Notifications as their owner sees them: groups in the first trip, and in the second what decides whether they show.

That is the cards of actors and of the authors of what a group is about, how the owner stands to them, and whether it is
there.
"""

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, get_args

from shared.comments import reads as comments
from shared.kernel import cache, db, moving
from shared.kernel.endpoint import Caller, Encoded
from shared.kernel.pages import PageQuery
from shared.notifications import projection, store
from shared.notifications.model import NotificationSettings, NotificationType
from shared.notifications.projection import NOTIFICATIONS, Entry
from shared.posts import reads as posts
from shared.profiles import reads as profiles
from shared.visibility import reads as visibility
from shared.visibility.model import may_notify, may_see


async def page(caller: Caller, query: PageQuery) -> Encoded:
    """A page of the caller's notifications, latest first, refilled for what the gate took out."""
    return await moving.page(
        "n", query, NOTIFICATIONS, caller.user_id, partial(_load, caller.user_id), partial(_visible, caller)
    )


def unread_count(user_id: int) -> int:
    """How many of the newest 1,000 unread groups the user may see, of Postgres."""
    with db.connection() as conn:
        return store.UNREAD.one(conn, user_id=user_id).count


def settings_of(user_id: int) -> NotificationSettings:
    """Which types a user wants, of Postgres."""
    with db.connection() as conn:
        row = store.SETTINGS.maybe(conn, user_id=user_id)
    return settings_without(row.unwanted if row is not None else [])


def settings_without(unwanted: Collection[str]) -> NotificationSettings:
    """The settings of who wants all types but these."""
    return NotificationSettings(**{kind: kind not in unwanted for kind in get_args(NotificationType)})


def encoded(entry: Entry, found: dict[int, profiles.Card]) -> bytes:
    """A notification as JSON, with the cards of its actors who are there."""
    actors = b",".join([found[actor].json for actor in entry.actors if actor in found])
    return b'%b,"actors":[%b]}' % (entry.head, actors)


def newest(user_id: int) -> list[Entry]:
    """The notifications of a user as they are kept in Redis, of Postgres."""
    return _load(user_id, moving.Walk(), NOTIFICATIONS.keep)


def _load(user_id: int, walk: moving.Walk, count: int) -> list[Entry]:
    with db.connection() as conn:
        groups = store.OF_USER.all(conn, user_id=user_id, limit=count, **walk.parameters())
    return [projection.entry_of(group) for group in groups]


async def _visible(caller: Caller, entries: Sequence[Entry]) -> list[tuple[int, bytes]]:
    if not entries:
        return []
    people = list({person: None for entry in entries for person in (*entry.actors, *entry.authors)})
    post_ids = list({entry.post_id: None for entry in entries if entry.post_id is not None})
    comment_ids = list({entry.comment_id: None for entry in entries if entry.comment_id is not None})
    subjects = [*map(posts.ask_there, post_ids), *map(comments.ask_there, comment_ids)]
    replies: list[Any]
    try:
        replies = await cache.run(profiles.ask_cards(people), visibility.ask(caller.user_id, people), *subjects)
    except cache.CacheUnavailable:
        replies = [[None] * len(people), [None], *[None] * len(subjects)]
    found = await profiles.take_cards(people, replies[0])
    relations = await visibility.take(caller.user_id, people, replies[1])
    there: set[int | None] = {None, *await posts.take_there(post_ids, replies[2 : 2 + len(post_ids)])}
    there.update(await comments.take_there(comment_ids, replies[2 + len(post_ids) :]))
    seen = {person for person in found if may_see(relations[person])}
    heard = {person: card for person, card in found.items() if may_notify(relations[person])}

    def shows(entry: Entry) -> bool:
        subject_is_there = entry.post_id in there and entry.comment_id in there
        return subject_is_there and seen.issuperset(entry.authors) and not heard.keys().isdisjoint(entry.actors)

    return [(entry.position, encoded(entry, heard)) for entry in entries if shows(entry)]
