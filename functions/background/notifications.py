"""Telling users of what others did."""

from shared.comments.model import CommentCreated, CommentDeleted, CommentEdited
from shared.kernel.events import on
from shared.notifications import actions
from shared.notifications.model import ActsHidden, SubjectsHidden
from shared.posts.model import PostCreated, PostDeleted, PostEdited
from shared.profiles.model import BlockChanged, FollowChanged, MuteChanged, UserChanged


@on(FollowChanged)
def notify_of_follow(event: FollowChanged) -> None:
    """Tell a user of a new follower, or take it back."""
    actions.of_follow(event)


@on(PostCreated, PostEdited, PostDeleted)
def notify_of_post(event: PostCreated | PostEdited | PostDeleted) -> None:
    """Tell those mentioned in a post, or take it back."""
    actions.of_post(event)


@on(CommentCreated, CommentEdited, CommentDeleted)
def notify_of_comment(event: CommentCreated | CommentEdited | CommentDeleted) -> None:
    """Tell the post's author, whom it replies to, and those mentioned in a comment, or take it back."""
    actions.of_comment(event)


@on(BlockChanged, MuteChanged)
def revoke_blocked(event: BlockChanged | MuteChanged) -> None:
    """Take back live what a block hides of the notifications of both, or a mute of those of who muted."""
    actions.of_stand(event)


@on(UserChanged)
def notify_of_user(event: UserChanged) -> None:
    """Take back live what a suspension hides of others' notifications; what its end shows again is read anew."""
    actions.of_user(event)


@on(ActsHidden, SubjectsHidden)
def revoke_hidden(event: ActsHidden | SubjectsHidden) -> None:
    """Take back live what some more of others' notifications show no more."""
    if isinstance(event, ActsHidden):
        actions.look_by(event)
    else:
        actions.look_below(event)
