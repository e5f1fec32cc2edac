"""Feeds: fan-out, and what a follow changes."""

from shared.feed import actions
from shared.feed.model import AuthorErased, FeedChunk, MergeChunk, ReadersChunk, RepostsChunk, TellersChunk
from shared.kernel.events import on
from shared.posts.model import PostCreated, PostDeleted
from shared.profiles.model import BlockChanged, FollowChanged, MuteChanged


@on(PostCreated, PostDeleted)
def fan_out_post(event: PostCreated | PostDeleted) -> None:
    """Tell an author's first followers of a post: few have more, who are told by chunks that are events.

    That it is gone, those of whoever reposted it hear as well.
    """
    if isinstance(event, PostDeleted):
        actions.post_deleted(event)
    else:
        actions.fan_out(FeedChunk(event.post_id, event.author_id, after=0, deleted=False))


@on(FeedChunk, RepostsChunk)
def fan_out_chunk(event: FeedChunk | RepostsChunk) -> None:
    """Tell one chunk of followers of a post; or have those told of one chunk of who reposted it that it is gone."""
    if isinstance(event, RepostsChunk):
        actions.reposts_gone(event)
    else:
        actions.fan_out(event)


@on(MergeChunk)
def merge_author(event: MergeChunk) -> None:
    """Have one chunk of an author's followers merge in on read what they tell."""
    actions.merge(event)


@on(AuthorErased)
def tell_of_erasure(event: AuthorErased) -> None:
    """Tell those who followed an account that was deleted that its posts are gone."""
    actions.author_erased(event)


@on(TellersChunk, ReadersChunk)
def tell_of_suspension(event: TellersChunk | ReadersChunk) -> None:
    """Have those who see posts of somebody in their feeds read anew who was suspended, or is so no more."""
    if isinstance(event, TellersChunk):
        actions.tellers_turned(event)
    else:
        actions.read_anew(event)


@on(FollowChanged, BlockChanged, MuteChanged)
def drop_feed(event: FollowChanged | BlockChanged | MuteChanged) -> None:
    """Have a user's feed built anew: whom they follow, or hear of those, has changed."""
    if isinstance(event, FollowChanged):
        actions.follow_changed(event)
    else:
        actions.hearing_changed(event)
