"""What is cached of the truth, brought up to date from Postgres as it is by now: order and repeats don't matter."""

from shared.kernel.events import on
from shared.notifications import actions as notifications
from shared.notifications.model import NotificationsRead
from shared.posts import reads as posts
from shared.posts.model import PostCreated, PostDeleted, PostEdited
from shared.profiles import reads as profiles
from shared.profiles.model import BlockChanged, FollowChanged, MuteChanged, UserChanged


@on(UserChanged)
def project_users(event: UserChanged) -> None:
    """Bring a user's card and profile up to date."""
    profiles.refresh([event.user_id], presence=event.presence)


@on(FollowChanged, BlockChanged, MuteChanged)
def project_relationships(event: FollowChanged | BlockChanged | MuteChanged) -> None:
    """Bring a relationship up to date, and after a follow or its end both users' counts."""
    if isinstance(event, FollowChanged):
        profiles.refresh_relationship(event.follower_id, event.followee_id)
        profiles.refresh([event.follower_id, event.followee_id])
    else:
        profiles.refresh_relationship(event.user_id, event.other_id, block=isinstance(event, BlockChanged))


@on(PostCreated, PostEdited, PostDeleted)
def project_posts(event: PostCreated | PostEdited | PostDeleted) -> None:
    """Bring a post up to date, and its author's count."""
    posts.refresh([event.post_id])
    profiles.refresh([event.author_id])


@on(NotificationsRead, BlockChanged, MuteChanged)
def project_notifications(event: NotificationsRead | BlockChanged | MuteChanged) -> None:
    """Drop what is cached of a user's notifications: they were read, or others may be told of by now.

    Other changes of them do that as they are told live.
    """
    notifications.refresh(event.user_id)
    if isinstance(event, BlockChanged):
        notifications.refresh(event.other_id)
