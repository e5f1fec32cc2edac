"""Notifications: their types and events."""

from typing import Literal

import msgspec

from shared.kernel.events import Event
from shared.profiles.model import UserCard

NotificationType = Literal["reaction", "comment", "reply", "repost", "mention", "follow"]
SubjectType = Literal["post", "comment", "user"]
# How many of a group's latest actors are shown.
SHOWN_ACTORS = 3


class Subject(msgspec.Struct, frozen=True):
    """What a notification is about: a post or comment by its id, or for a follow you yourself, by username."""

    type: SubjectType
    id: str


class Notification(msgspec.Struct, frozen=True):
    """A group of acts of one type on one subject. `actors` are the latest 3, `at` is when the latest acted."""

    id: str
    type: NotificationType
    subject: Subject
    actors: list[UserCard]
    actor_count: int
    at: int
    unread: bool


class Act(msgspec.Struct, frozen=True):
    """Something that `actor_id` did, or undid (`act_id` null), that `user_id` is told of.

    `version` grows with each change of the act: an older one that comes late changes nothing.
    """

    user_id: int
    type: NotificationType
    subject: str
    actor_id: int
    act_id: int | None
    version: int


class NotificationSettings(msgspec.Struct, frozen=True):
    """Which types of notifications a user wants."""

    reaction: bool
    comment: bool
    reply: bool
    repost: bool
    mention: bool
    follow: bool


class NotificationSettingsEdit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which types are wanted from now on, and which not; what is left out stays as it is."""

    reaction: bool | msgspec.UnsetType = msgspec.UNSET
    comment: bool | msgspec.UnsetType = msgspec.UNSET
    reply: bool | msgspec.UnsetType = msgspec.UNSET
    repost: bool | msgspec.UnsetType = msgspec.UNSET
    mention: bool | msgspec.UnsetType = msgspec.UNSET
    follow: bool | msgspec.UnsetType = msgspec.UNSET


class NotificationChanged(Event, frozen=True):
    """A notification was made, grew, or was taken back; what it is by now is to be told at `due_at`.

    Without `news` nobody acted in it, but it may be that more of it is hidden than was told: that alone is told.
    """

    notification_id: int
    user_id: int
    due_at: int
    news: bool = True


class ActsHidden(Event, frozen=True):
    """Somebody was suspended, or is back: the groups past `after` in which they acted are to be looked at.

    `cause_id` is the same for all the events that one such change leads to.
    """

    actor_id: int
    cause_id: int
    after: int = 0


class SubjectsHidden(Event, frozen=True):
    """Posts of an author are hidden, or shown again: groups about what is said on them are to be looked at.

    That is from past the comment `after` on the post `post_id` on, to the last on `last_post_id`. `cause_id` is the
    same for all the events that one such change leads to.
    """

    author_id: int
    cause_id: int
    post_id: int
    last_post_id: int
    after: int = 0


class NotificationsRead(Event, frozen=True):
    """A user marked notifications as read."""

    user_id: int
