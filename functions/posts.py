"""Posts."""

from shared.engagement.model import NewReaction, Reaction, ReactionQuery, Repost
from shared.kernel.endpoint import Caller, Encoded, PostId, Username, endpoint
from shared.kernel.pages import Page, PageQuery
from shared.posts import actions, lists, reads
from shared.posts.model import NewPost, Post, PostEdit


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


@endpoint("PATCH /v1/posts/{post_id}", answers=Post)
def edit_post(caller: Caller, post_id: PostId, body: PostEdit) -> Encoded:
    """Edit a post of yours: its description, its alt texts. What is left out stays.

    `alt_texts` has one a medium, in order; null takes it away. Mentions and hashtags are taken anew: who is mentioned
    now is told, who is no more isn't. `edited_at` says when, unless all was so already.
    """
    return actions.edit(caller, post_id, body)


@endpoint("DELETE /v1/posts/{post_id}")
def delete_post(caller: Caller, post_id: PostId) -> None:
    """Delete a post of yours, with its media, everywhere at once."""
    actions.delete(caller, post_id)


@endpoint("GET /v1/users/{username}/posts", answers=Page[Post])
async def list_user_posts(viewer: Caller | None, username: Username, query: PageQuery) -> Encoded:
    """A user's posts, newest first."""
    return await reads.of_user(viewer, username, query)


@endpoint("PUT /v1/posts/{post_id}/reaction", action=True, answers=Post)
def react_to_post(caller: Caller, post_id: PostId, body: NewReaction) -> Encoded:
    """React to a post with one emoji, instead of an earlier reaction of yours. 404 as for `get_post`.

    Any emoji of the current Unicode, with skin tone, as sequence or flag. Without its variation selector it is the
    same emoji (`❤` is `❤️`), and answers have the fully qualified form.
    """
    return actions.react(caller, post_id, body)


@endpoint("DELETE /v1/posts/{post_id}/reaction", action=True, answers=Post)
def unreact_to_post(caller: Caller, post_id: PostId) -> Encoded:
    """Take your reaction to a post back.

    Where the post is hidden from you by now, this is done all the same, and 404 answered as for `get_post`.
    """
    return actions.unreact(caller, post_id)


@endpoint("PUT /v1/posts/{post_id}/save", answers=Post)
def save_post(caller: Caller, post_id: PostId) -> Encoded:
    """Save a post, for you alone to find again."""
    return actions.save(caller, post_id)


@endpoint("DELETE /v1/posts/{post_id}/save", answers=Post)
def unsave_post(caller: Caller, post_id: PostId) -> Encoded:
    """Take a post out of those you saved.

    Where the post is hidden from you by now, this is done all the same, and 404 answered as for `get_post`.
    """
    return actions.unsave(caller, post_id)


@endpoint("PUT /v1/posts/{post_id}/repost", answers=Post)
def repost(caller: Caller, post_id: PostId) -> Encoded:
    """Repost a post: it shows in your followers' feeds and your own, as reposted by you."""
    return actions.repost(caller, post_id)


@endpoint("DELETE /v1/posts/{post_id}/repost", answers=Post)
def undo_repost(caller: Caller, post_id: PostId) -> Encoded:
    """Take a repost back: it leaves the feeds it was in.

    Where the post is hidden from you by now, this is done all the same, and 404 answered as for `get_post`.
    """
    return actions.undo_repost(caller, post_id)


@endpoint("GET /v1/posts/{post_id}/reactions", answers=Page[Reaction])
async def list_post_reactions(caller: Caller, post_id: PostId, query: ReactionQuery) -> Encoded:
    """Who reacted to a post, newest first, as far as you may see them; with `?emoji=`, with that alone.

    `at` is when they first reacted, whatever they replaced it with since.
    """
    return await lists.reactions(caller, post_id, query)


@endpoint("GET /v1/posts/{post_id}/reposts", answers=Page[Repost])
async def list_reposts(caller: Caller, post_id: PostId, query: PageQuery) -> Encoded:
    """Who reposted a post, newest first, as far as you may see them."""
    return await lists.reposts(caller, post_id, query)


@endpoint("GET /v1/me/saved", answers=Page[Post])
async def list_saved_posts(caller: Caller, query: PageQuery) -> Encoded:
    """The posts that you saved, latest saved first."""
    return await lists.saved(caller, query)


@endpoint("GET /v1/me/reacted", answers=Page[Post])
async def list_reacted_posts(caller: Caller, query: PageQuery) -> Encoded:
    """The posts that you reacted to, latest reaction first; replacing one doesn't move it."""
    return await lists.reacted(caller, query)


@endpoint("GET /v1/me/mentioned", answers=Page[Post])
async def list_mentioned_posts(caller: Caller, query: PageQuery) -> Encoded:
    """The posts that you are mentioned in, latest mention first."""
    return await lists.mentioning(caller, query)
