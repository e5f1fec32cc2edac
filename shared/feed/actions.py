"""Bringing posts into feeds and out of them: in chunks of followers, each an event, so that no run is long."""

from typing import Final

from shared.feed import store
from shared.feed.model import FEEDS, FeedChunk, entry_of
from shared.kernel import cache, clock, db, events, ids
from shared.live import publish
from shared.posts import reads as posts
from shared.profiles import reads as profiles
from shared.profiles.model import FollowChanged, MuteChanged
from shared.visibility import reads as visibility
from shared.visibility.model import may_notify, shows_in_feed

CHUNK: Final = 500


def fan_out(chunk: FeedChunk) -> None:
    """Tell one chunk of followers, and then leave the rest to the next.

    What is told is what the post is by now: a chunk that comes late, or again, brings no deleted post back.
    """
    followers = profiles.followers_after(chunk.author_id, chunk.after, CHUNK)
    if followers:
        _tell(chunk, [user_id for user_id, _ in followers])
    if len(followers) == CHUNK:
        _go_on(chunk, followers[-1][1])


def _tell(chunk: FeedChunk, followers: list[int]) -> None:
    relations = visibility.towards(chunk.author_id, followers)
    found = posts.snapshot(chunk.post_id)
    entry = [entry_of(chunk.post_id, chunk.author_id)]
    everyone = list(relations)
    if found is None:
        cache.run_sync(FEEDS.remove_from_all(everyone, entry))
    else:
        everyone = [user_id for user_id, relation in relations.items() if shows_in_feed(relation, own=False)]
        cache.run_sync(FEEDS.add_to_all(everyone, entry))
    name, data = _live_event(chunk, found)
    if name:
        # One delivery a chunk, however often it comes.
        once = f"{name}:{ids.encode(chunk.post_id)}:{chunk.after}"
        publish.deliver([user_id for user_id in everyone if may_notify(relations[user_id])], name, data, once=once)


def _go_on(chunk: FeedChunk, after: int) -> None:
    # Once a chunk, however often it comes: else each repeat would start a train of copies. By this chunk and not by
    # the next: where that begins differs once somebody has stopped following.
    effect = f"feed:{ids.encode(chunk.post_id)}:{chunk.after}:{chunk.deleted}"
    with db.transaction() as conn:
        if store.MARK.run(conn, effect=effect, now=clock.now_ms()):
            events.emit(conn, FeedChunk(chunk.post_id, chunk.author_id, after, chunk.deleted))
    events.after_commit()


def _live_event(chunk: FeedChunk, found: tuple[bytes, int] | None) -> tuple[str, bytes]:
    if chunk.deleted:
        return "feed.post_deleted", b'{"id":"%b"}' % ids.encode(chunk.post_id).encode()
    return ("", b"") if found is None else ("feed.post_created", found[0])


def follow_changed(event: FollowChanged) -> None:
    """Drop the follower's feed, where the request that followed, or stopped, could not: the next read builds it."""
    cache.run_sync(FEEDS.drop(event.follower_id, event.followee_id, event.version))


def mute_changed(event: MuteChanged) -> None:
    """Drop the feed of one who mutes no more: what came in meanwhile was left out of it."""
    cache.run_sync(FEEDS.drop(event.user_id, event.other_id, event.version))
