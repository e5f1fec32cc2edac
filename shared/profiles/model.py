"""Profiles: their types and events."""

from typing import Annotated

import msgspec

from shared.kernel.events import Event
from shared.presence.model import Presence

ObjectName = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Picture(msgspec.Struct, frozen=True):
    """A profile picture's URLs, by size."""

    small: str
    medium: str
    large: str


class NewPicture(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A profile picture to be shown from now on: the names of its uploaded objects, one a size."""

    small: ObjectName
    medium: ObjectName
    large: ObjectName


class UserCard(msgspec.Struct, frozen=True):
    """The short card of a user, the same everywhere."""

    username: str
    name: str
    picture: Picture | None


class ProfileCounts(msgspec.Struct, frozen=True):
    """How many posts, followers, and users followed."""

    posts: int
    followers: int
    following: int


class ProfileViewer(msgspec.Struct, frozen=True):
    """How the one who looks stands to the profile's owner."""

    following: bool
    followed_by: bool
    blocking: bool
    muting: bool


class Profile(msgspec.Struct, frozen=True):
    """A profile as others see it. `viewer` is null for visitors.

    `presence` is there where it is read by who may see it: whom the user follows, or whose chat they have accepted, if
    both show theirs.
    """

    user: UserCard
    bio: str
    links: list[str]
    counts: ProfileCounts
    viewer: ProfileViewer | None
    presence: Presence | msgspec.UnsetType = msgspec.UNSET


class ListedUser(msgspec.Struct, frozen=True):
    """A user in a list, and how the one who looks stands to them."""

    user: UserCard
    viewer: ProfileViewer


class UserChanged(Event, frozen=True):
    """A user signed up, or their profile, counts or state changed.

    `came_or_went`: suspended, or that no more. `presence`: they hide when they are here, or show it, from now on.
    """

    user_id: int
    came_or_went: bool = False
    presence: bool = False


class FollowChanged(Event, frozen=True):
    """A follow was made (`follow_id` is its id) or undone (null). `version` is that of the relationship."""

    follower_id: int
    followee_id: int
    follow_id: int | None
    version: int


class BlockChanged(Event, frozen=True):
    """`user_id` has blocked `other_id`, or does so no more. `version` is that of the relationship."""

    user_id: int
    other_id: int
    version: int


class MuteChanged(Event, frozen=True):
    """`user_id` has muted `other_id`, or does so no more. `version` is that of the relationship."""

    user_id: int
    other_id: int
    version: int
