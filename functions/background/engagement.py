"""What users do with posts: what is cached of it, and reposts in feeds."""

from shared.engagement import reads as engagement
from shared.engagement.model import PostReacted, PostReposted, PostSaved
from shared.feed import actions as feed
from shared.kernel.events import on
from shared.posts import reads as posts


@on(PostReacted, PostSaved, PostReposted)
def project_engagement(event: PostReacted | PostSaved | PostReposted) -> None:
    """Bring a post's counts up to date, and what its user has done with it."""
    engagement.refresh(event.user_id, event.subject_id)
    posts.refresh_cards([event.subject_id])


@on(PostReposted)
def fan_out_repost(event: PostReposted) -> None:
    """Tell a reposter's first followers of a repost, or that it was undone; chunks tell the rest."""
    feed.repost_changed(event)
