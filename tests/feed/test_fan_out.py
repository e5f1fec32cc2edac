"""Fan-out in chunks: each follower hears once, however often a chunk comes, and a chunk goes on to one next."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import msgspec
import pytest

from infra.local.stack import Stack
from shared.engagement import reads as engagement
from shared.feed import actions
from shared.feed.model import FeedChunk, FeedRepost, RepostsChunk
from shared.kernel import cache, db, events, ids
from shared.posts import reads
from shared.posts.model import PostDeleted
from shared.profiles import reads as profiles
from tests.client import Person, processes

E = TypeVar("E", bound=events.Event)


class PayloadRow(msgspec.Struct, frozen=True):
    payload: bytes


TAKE = db.Statement("DELETE FROM outbox WHERE topic = :topic RETURNING payload", PayloadRow)
UNDO = db.Statement("UPDATE engagements SET repost_id = NULL, version = version + 1 WHERE repost_id = :repost_id")
FOLLOWERS = 5


@pytest.fixture
def crowd(stack: Stack, person: Callable[[], Person], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Person]]:
    """An author and five followers with feeds in Redis; the relay stands still, so that chunks are the test's."""
    author, *followers = people = [person() for _ in range(FOLLOWERS + 1)]
    for follower in followers:
        follower.follow(author.username)
        assert feed_of(follower) == []
    monkeypatch.setattr(actions, "CHUNK", 2)
    stopped = processes(stack, "relay")
    for process in stopped:
        process.suspend()
    yield people
    for process in stopped:
        process.resume()


def feed_of(person: Person) -> list[str]:
    return [post["id"] for post in person.items("/v1/feed")]


def first_chunk(author: Person, post: dict[str, Any], *, deleted: bool = False) -> FeedChunk:
    author_id = profiles.named([author.username])[author.username]
    return FeedChunk(ids.decode(post["id"]), author_id, 0, deleted)


def emitted() -> list[FeedChunk]:
    """The chunks in the outbox, taken out as the relay would."""
    return taken(FeedChunk)


def taken(kind: type[E]) -> list[E]:
    with db.connection() as conn:
        return [msgspec.json.decode(row.payload, type=kind) for row in TAKE.all(conn, topic=kind.topic)]


def run_all(chunk: FeedChunk, times: int) -> int:
    """Fan out, each chunk so many times; how many chunks there were."""
    under_way, count = [chunk], 0
    while under_way:
        count += len(under_way)
        for one in under_way:
            for _ in range(times):
                actions.fan_out(one)
        under_way = emitted()
    return count


def test_chunks_that_come_again_and_again_stay_as_many(crowd: list[Person]) -> None:
    author, *followers = crowd
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(follower.live()) for follower in followers]
        post = author.post_photo("To all")
        assert run_all(first_chunk(author, post), times=3) == 3
        assert [feed_of(follower) for follower in followers] == [[post["id"]]] * FOLLOWERS
        for socket in sockets:
            assert [event["data"]["id"] for event in socket.drain()] == [post["id"]]
        author.delete(f"/v1/posts/{post['id']}")
        assert run_all(first_chunk(author, post, deleted=True), times=2) == 3
        assert [feed_of(follower) for follower in followers] == [[]] * FOLLOWERS
        for socket in sockets:
            assert [event["event"] for event in socket.drain()] == ["feed.post_created", "feed.post_deleted"]


def test_a_chunk_that_fails_goes_nowhere(crowd: list[Person], monkeypatch: pytest.MonkeyPatch) -> None:
    author = crowd[0]
    chunk = first_chunk(author, author.post_photo("Not yet"))

    def unavailable(*_: Any, **__: Any) -> None:
        raise cache.CacheUnavailable

    with monkeypatch.context() as broken:
        broken.setattr(cache, "run_sync", unavailable)
        for _ in range(3):
            with pytest.raises(cache.CacheUnavailable):
                actions.fan_out(chunk)
    assert emitted() == []
    assert run_all(chunk, times=1) == 3


def test_a_chunk_goes_on_once_though_its_followers_change(crowd: list[Person]) -> None:
    author, first, *others = crowd
    post = author.post_photo("To who is there")
    chunk = first_chunk(author, post)
    actions.fan_out(chunk)
    (following,) = emitted()
    first.delete(f"/v1/users/{author.username}/follow")
    actions.fan_out(chunk)
    assert emitted() == []
    run_all(following, times=1)
    assert [feed_of(follower) for follower in others] == [[post["id"]]] * len(others)


@pytest.mark.parametrize("told", ["by the same chunk", "by another", "not to who has stopped following"])
def test_nobody_is_left_with_a_post_whose_end_was_told_meanwhile(
    crowd: list[Person], monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    author, follower = crowd[0], crowd[1]
    post = author.post_photo("Hardly there")
    chunk = first_chunk(author, post)
    found = reads.snapshot

    def slow(post_id: int, reposter: int | None = None) -> reads.Snapshot | None:
        there = found(post_id, reposter)
        monkeypatch.setattr(reads, "snapshot", found)
        author.delete(f"/v1/posts/{post['id']}")
        if told.startswith("not"):
            follower.delete(f"/v1/users/{author.username}/follow")
        gone = first_chunk(author, post, deleted=True)
        actions.fan_out(msgspec.structs.replace(gone, after=1) if told == "by another" else gone)
        return there

    monkeypatch.setattr(reads, "snapshot", slow)
    with follower.live() as live:
        actions.fan_out(chunk)
        actions.fan_out(chunk)
        heard = [event["event"] for event in live.drain()]
    assert heard == [*(["feed.post_created"] if told.startswith("not") else []), "feed.post_deleted"]
    emitted()


def test_a_chunk_that_comes_again_after_a_reaction_is_not_heard_again(crowd: list[Person]) -> None:
    author, follower = crowd[0], crowd[1]
    post = author.post_photo("Liked")
    chunk = first_chunk(author, post)
    with follower.live() as live:
        actions.fan_out(chunk)
        author.put(f"/v1/posts/{post['id']}/reaction", {"emoji": "👍"})
        actions.fan_out(chunk)
        assert [event["event"] for event in live.drain()] == ["feed.post_created"]
    emitted()


def test_a_repost_that_comes_again_to_who_has_saved_it_is_not_heard_again(alice: Person, crowd: list[Person]) -> None:
    reposter, follower = crowd[0], crowd[1]
    post = alice.post_photo("Reposted")
    reposter.put(f"/v1/posts/{post['id']}/repost")
    (repost,) = engagement.reposts_before(ids.decode(post["id"]), ids.MAX, 2)
    chunk = msgspec.structs.replace(first_chunk(alice, post), repost=FeedRepost(*repost))
    with follower.live() as live:
        actions.fan_out(chunk)
        follower.put(f"/v1/posts/{post['id']}/save")
        actions.fan_out(chunk)
        assert [event["event"] for event in live.drain()] == ["feed.post_created"]
    emitted()


def test_a_post_that_comes_again_to_who_is_blocked_by_one_it_names_is_not_heard_again(
    alice: Person, crowd: list[Person]
) -> None:
    author, follower = crowd[0], crowd[1]
    chunk = first_chunk(author, author.post_photo(f"With @{alice.username}"))
    with follower.live() as live:
        actions.fan_out(chunk)
        alice.put(f"/v1/users/{follower.username}/block")
        actions.fan_out(chunk)
        assert [event["data"]["mentions"] for event in live.drain()] == [[alice.username]]
    emitted()


def test_who_follows_anew_and_is_in_a_later_chunk_too_does_not_hear_again(crowd: list[Person]) -> None:
    author, follower = crowd[0], crowd[1]
    chunk = first_chunk(author, author.post_photo("To all"))
    with follower.live() as live:
        actions.fan_out(chunk)
        (following,) = emitted()
        follower.delete(f"/v1/users/{author.username}/follow")
        follower.follow(author.username)
        run_all(following, times=1)
        assert [event["event"] for event in live.drain()] == ["feed.post_created"]


def test_the_reposts_of_a_deleted_post_are_told_in_chunks_too_each_going_on_once(
    alice: Person, crowd: list[Person]
) -> None:
    post = alice.post_photo("Oops")
    for reposter in crowd[:3]:
        reposter.put(f"/v1/posts/{post['id']}/repost")
    which = (ids.decode(post["id"]), profiles.named([alice.username])[alice.username])
    reposts = [FeedRepost(*one) for one in engagement.reposts_before(which[0], ids.MAX, 3)]
    alice.delete(f"/v1/posts/{post['id']}")
    actions.post_deleted(PostDeleted(*which))
    # As whose account is erased meanwhile.
    with db.connection() as conn:
        UNDO.run(conn, repost_id=reposts[0].id)
    actions.post_deleted(PostDeleted(*which))
    (rest,) = taken(RepostsChunk)
    assert [chunk.repost for chunk in emitted()] == reposts[:2]
    for _ in range(2):
        actions.reposts_gone(rest)
    assert emitted() == [FeedChunk(*which, 0, True, reposts[2])]
    assert taken(RepostsChunk) == []


def test_the_relay_is_woken_for_the_next_chunk(crowd: list[Person]) -> None:
    author = crowd[0]
    chunk = first_chunk(author, author.post_photo("At once"))
    with cache.redis().pubsub(ignore_subscribe_messages=True) as nudges:  # pyright: ignore[reportUnknownMemberType]
        nudges.subscribe(events.NUDGE_CHANNEL)  # pyright: ignore[reportUnknownMemberType]
        nudges.get_message(timeout=5)
        actions.fan_out(chunk)
        assert nudges.get_message(timeout=5) is not None
    run_all(chunk, times=1)
