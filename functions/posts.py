"""Posts."""

from shared.kernel.endpoint import Caller, Encoded, PostId, Username, endpoint
from shared.kernel.pages import Page, PageQuery
from shared.posts import actions, reads
from shared.posts.model import NewPost, Post


@endpoint("POST /v1/posts", status=201, answers=Post)
def create_post(caller: Caller, body: NewPost) -> Encoded:
    """Post photos, a video or a reel that were uploaded before.

    `@mentions` of users who exist and `#hashtags` of any script are taken from the description, 30 of each at most.
    """
    return actions.create(caller, body)


@endpoint("GET /v1/posts/{post_id}", answers=Post)
async def get_post(viewer: Caller | None, post_id: PostId) -> Encoded:
    """A post. 404 if it is gone, or its author and you have blocked each other."""
    return await reads.post(viewer, post_id)


@endpoint("DELETE /v1/posts/{post_id}")
def delete_post(caller: Caller, post_id: PostId) -> None:
    """Delete a post of yours, with its media, everywhere at once."""
    actions.delete(caller, post_id)


@endpoint("GET /v1/users/{username}/posts", answers=Page[Post])
async def list_user_posts(viewer: Caller | None, username: Username, query: PageQuery) -> Encoded:
    """A user's posts, newest first."""
    return await reads.of_user(viewer, username, query)
