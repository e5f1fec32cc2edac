"""Feeds: fan-out, and what a follow brings in or takes out."""

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
def backfill_feed(event: FollowChanged) -> None:
    """Bring an author's posts into a follower's feed, or out of it."""
    actions.reconcile(event.follower_id, event.followee_id)
