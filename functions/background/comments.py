"""Comments in Redis, brought up to date from Postgres as they are by now."""

from shared.comments import reads
from shared.comments.model import CommentCreated, CommentDeleted, CommentEdited, CommentReacted
from shared.engagement import reads as engagement
from shared.kernel.events import on
from shared.posts import reads as posts


@on(CommentCreated, CommentEdited, CommentDeleted)
def project_comments(event: CommentCreated | CommentEdited | CommentDeleted) -> None:
    """Bring a comment up to date, those above it that changed with it, and its post's count."""
    match event:
        case CommentCreated():
            reads.refresh([event.comment_id, *([] if event.parent_id is None else [event.parent_id])])
            posts.refresh_cards([event.post_id])
        case CommentEdited():
            reads.refresh([event.comment_id])
        case CommentDeleted():
            reads.refresh([event.comment_id, *event.above])
            posts.refresh_cards([event.post_id])


@on(CommentReacted)
def project_comment_reactions(event: CommentReacted) -> None:
    """Bring a comment's reactions up to date, and what its user has done with it."""
    engagement.refresh(event)
    reads.refresh_cards([event.subject_id])
