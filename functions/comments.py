"""Comments and replies."""

from shared.comments import actions, lists, reads
from shared.comments.model import Comment, CommentEdit, NewComment
from shared.engagement.model import NewReaction, Reaction, ReactionQuery
from shared.kernel.endpoint import Caller, CommentId, Encoded, PostId, endpoint
from shared.kernel.pages import Page, PageQuery
from shared.posts.model import Post


@endpoint("POST /v1/posts/{post_id}/comments", status=201, answers=Comment)
def comment_on_post(caller: Caller, post_id: PostId, body: NewComment) -> Encoded:
    """Comment on a post. 404 if the post is gone, or its author and you have blocked each other.

    The text has 1 to 2,200 characters without the spaces around it, or none beside an attachment: one photo or video,
    uploaded for `comment`, with its placeholder. `@mentions` of users who exist are taken from it, 30 at most.
    """
    return actions.comment(caller, post_id, body)


@endpoint("GET /v1/posts/{post_id}/comments", answers=Page[Comment])
async def list_post_comments(viewer: Caller | None, post_id: PostId, query: PageQuery) -> Encoded:
    """The comments on a post, newest first; replies are listed by comment.

    A deleted comment that has replies is among them as a tombstone.
    """
    return await reads.of_post(viewer, post_id, query)


@endpoint("POST /v1/comments/{comment_id}/replies", status=201, answers=Comment)
def reply_to_comment(caller: Caller, comment_id: CommentId, body: NewComment) -> Encoded:
    """Reply to a comment or to a reply, to any depth; otherwise as commenting on a post.

    404 if the comment is gone or hidden from you; 409 `comment_deleted` if it is a tombstone.
    """
    return actions.reply(caller, comment_id, body)


@endpoint("GET /v1/comments/{comment_id}/replies", answers=Page[Comment])
async def list_replies(viewer: Caller | None, comment_id: CommentId, query: PageQuery) -> Encoded:
    """The direct replies to a comment, newest first; tombstones have theirs too."""
    return await reads.replies(viewer, comment_id, query)


@endpoint("GET /v1/comments/{comment_id}", answers=Comment)
async def get_comment(viewer: Caller | None, comment_id: CommentId) -> Encoded:
    """A comment or reply. 404 if it is gone, or there is a block between you and its author or the post's.

    One that was deleted and has replies is read as a tombstone, and its replies as ever. Whatever would change it, or
    say more to it, is 409 `comment_deleted`, whoever asks; its reactions went with it.
    """
    return await reads.comment(viewer, comment_id)


@endpoint("PATCH /v1/comments/{comment_id}", answers=Comment)
def edit_comment(caller: Caller, comment_id: CommentId, body: CommentEdit) -> Encoded:
    """Edit the text of a comment of yours; `edited_at` shows it.

    Who is newly mentioned is told; what those were told who no longer are is taken back. 404 as for `get_comment`, 409
    `comment_deleted` for a tombstone.
    """
    return actions.edit(caller, comment_id, body)


@endpoint("DELETE /v1/comments/{comment_id}")
def delete_comment(caller: Caller, comment_id: CommentId) -> None:
    """Delete a comment of yours, or one on a post of yours, with its attachment; also where it is hidden from you.

    While it has replies it stays as a tombstone: its `deleted_at` is set, author, text and attachment are null. Without
    any it is gone, and so is a tombstone above it whose last reply it was. A tombstone can't be deleted again: 409
    `comment_deleted`.
    """
    actions.delete(caller, comment_id)


@endpoint("PUT /v1/comments/{comment_id}/reaction", action=True, answers=Comment)
def react_to_comment(caller: Caller, comment_id: CommentId, body: NewReaction) -> Encoded:
    """React to a comment with one emoji, instead of an earlier reaction of yours. 404 as for `get_comment`.

    Emoji are as for posts. 409 `comment_deleted` for a tombstone.
    """
    return actions.react(caller, comment_id, body)


@endpoint("DELETE /v1/comments/{comment_id}/reaction", action=True, answers=Comment)
def unreact_to_comment(caller: Caller, comment_id: CommentId) -> Encoded:
    """Take your reaction to a comment back.

    Where the comment is hidden from you by now, the reaction is taken back, and 404 answered as for `get_comment`. 409
    `comment_deleted` for a tombstone, whose reactions went with it.
    """
    return actions.unreact(caller, comment_id)


@endpoint("GET /v1/comments/{comment_id}/reactions", answers=Page[Reaction])
async def list_comment_reactions(caller: Caller, comment_id: CommentId, query: ReactionQuery) -> Encoded:
    """Who reacted to a comment, newest first, as far as you may see them; with `?emoji=`, with that alone.

    As for posts, `at` is when they first reacted. 404 for a tombstone too, whose reactions went with it.
    """
    return await lists.reactions(caller, comment_id, query)


@endpoint("GET /v1/me/commented", answers=Page[Post])
async def list_commented_posts(caller: Caller, query: PageQuery) -> Encoded:
    """The posts that you commented on or replied on, each once, by your newest comment there, newest first."""
    return await lists.commented(caller, query)
