"""Feeds: fan-out, and what a follow changes."""

from shared.feed import actions
from shared.feed.model import FeedChunk
from shared.kernel.events import on
from shared.posts.model import PostCreated, PostDeleted
from shared.profiles.model import FollowChanged


@on(PostCreated, PostDeleted)
def fan_out_post(event: PostCreated | PostDeleted) -> None:
    """Begin to tell an author's followers of a post."""
    actions.start(event.post_id, event.author_id, deleted=isinstance(event, PostDeleted))


@on(FeedChunk)
def fan_out_chunk(event: FeedChunk) -> None:
    """Tell one chunk of followers of a post."""
    actions.fan_out(event)


@on(FollowChanged)
def drop_feed(event: FollowChanged) -> None:
    """Have a follower's feed built anew: whom they follow has changed."""
    actions.follow_changed(event)
