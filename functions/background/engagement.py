"""What users do with posts: what is cached of it, whom to tell, and reposts in feeds."""

from shared.comments.model import CommentReacted
from shared.engagement import reads as engagement
from shared.engagement.model import PostReacted, PostReposted, PostSaved
from shared.feed import actions as feed
from shared.kernel.events import on
from shared.notifications import actions as notifications
from shared.posts import reads as posts


@on(PostReacted, PostSaved, PostReposted)
def project_engagement(event: PostReacted | PostSaved | PostReposted) -> None:
    """Bring a post's counts up to date, what its user has done with it, and the lists of both."""
    engagement.refresh(event)
    posts.refresh_engaged(event)


@on(PostReacted, PostReposted, CommentReacted)
def notify_of_engagement(event: PostReacted | PostReposted | CommentReacted) -> None:
    """Tell the author of a reaction or repost, or take it back."""
    notifications.of_engagement(event)


@on(PostReposted)
def fan_out_repost(event: PostReposted) -> None:
    """Tell a reposter's first followers of a repost, or that it was undone; chunks tell the rest."""
    feed.repost_changed(event)
