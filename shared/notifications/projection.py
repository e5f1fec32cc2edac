"""The newest notifications of a user in Redis: `notifications:{user}` (shared/kernel/recent.py).

Of actors it holds those whom its owner may see, so it goes too when the owner blocks, mutes or is blocked, or takes
that back. Whether the owner may see what a notification is about is no part of it: that is asked when it is read. When
an actor is suspended, or is back, it goes once that is heard.
"""

from typing import Final, cast

import msgspec

from shared.kernel import ids
from shared.kernel.recent import Recent
from shared.notifications.model import Subject, SubjectType
from shared.notifications.store import GroupRow


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A notification but for its actors' cards: the id that orders it, its own, its JSON up to them, and who they are.

    It is about a post, or a comment on one, by `authors`: all of that has to be there for its owner. A follow is not.
    """

    position: int
    id: int
    head: bytes
    actors: list[int]
    post_id: int | None
    comment_id: int | None
    authors: list[int]


class _Head(msgspec.Struct, frozen=True):
    id: str
    type: str
    subject: Subject
    actor_count: int
    at: int
    unread: bool


NOTIFICATIONS: Final = Recent("notifications", Entry, keep=100)


def entry_of(group: GroupRow) -> Entry:
    """The cached form of a group that has an actor who is seen."""
    authors = [author for author in (group.post_author_id, group.comment_author_id) if author is not None]
    kind, _, name = group.subject.partition(":")
    head = _Head(
        id=ids.encode(group.id),
        type=group.type,
        subject=Subject(cast("SubjectType", kind), name),
        actor_count=group.actor_count,
        at=ids.made_at(group.seen_id or 0),
        unread=group.unread,
    )
    encoded = msgspec.json.encode(head)[:-1]
    return Entry(group.latest_id or 0, group.id, encoded, group.actors, group.post_id, group.comment_id, authors)
