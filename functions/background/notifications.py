"""Telling users of what others did."""

from shared.kernel import ids
from shared.kernel.events import on
from shared.notifications import actions
from shared.notifications.model import Act
from shared.posts import reads as posts
from shared.posts.model import PostCreated, PostDeleted
from shared.profiles import reads as profiles
from shared.profiles.model import FollowChanged


@on(FollowChanged)
def notify_of_follow(event: FollowChanged) -> None:
    """Tell a user of a new follower, or take it back."""
    username = profiles.username_of(event.followee_id)
    if username is not None:
        act = Act(event.followee_id, "follow", f"user:{username}", event.follower_id, event.follow_id, event.version)
        actions.apply([act])


@on(PostCreated, PostDeleted)
def notify_of_post(event: PostCreated | PostDeleted) -> None:
    """Tell those mentioned in a post, or take it back."""
    state = posts.mentions_of(event.post_id)
    if state is not None:
        subject = f"post:{ids.encode(event.post_id)}"
        act_id = None if state.deleted else event.post_id
        mentioned = profiles.reachable(event.author_id, state.mentions) if act_id else profiles.named(state.mentions)
        actions.apply(
            [Act(user_id, "mention", subject, event.author_id, act_id, state.version) for user_id in mentioned.values()]
        )
