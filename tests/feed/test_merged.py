"""Authors with many followers: merged into feeds on read, seen and heard like everybody else."""

import asyncio
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.local.stack import Stack
from infra.verify.kinds import ALL
from shared.feed import actions, projection, reads
from shared.feed.model import FEEDS, TOLD, MergeChunk, mark_of
from shared.kernel import cache, db, ids, ledger
from shared.kernel.timeline import Slice
from shared.moderation.actions import unsuspend
from shared.profiles.model import FollowChanged
from tests.client import PASSWORD, Person, sign_up, standing_still, trips, wait_until
from tests.feed.merging import id_of, is_away, is_settled, kept_of, merging_from
from tests.feed.posts import insert_posts
from tests.moderation.accounts import promoted

MANY = 3


class PayloadRow(msgspec.Struct, frozen=True):
    payload: bytes


TAKE = db.Statement("DELETE FROM outbox WHERE topic = 'merge_chunk' RETURNING payload", PayloadRow)
OUTBOX = db.Statement("SELECT payload FROM outbox LIMIT 1", PayloadRow)


@pytest.fixture(scope="module", autouse=True)
def stack() -> Iterator[Stack]:
    with merging_from(MANY) as running:
        yield running


@pytest.fixture(scope="module")
def crowd(stack: Stack) -> list[Person]:
    return [sign_up(stack) for _ in range(MANY)]


@pytest.fixture
def star(stack: Stack, crowd: list[Person]) -> Person:
    """An author whom a crowd follows, and who is merged into their feeds."""
    author = sign_up(stack)
    gather(author, crowd)
    return author


def gather(author: Person, crowd: list[Person]) -> None:
    for follower in crowd:
        follower.follow(author.username)
    wait_until(lambda: is_settled(id_of(author)))


def feed_of(person: Person, limit: int = 20) -> list[str]:
    return [post["id"] for post in person.items("/v1/feed", limit=limit)]


def of_author(person: Person, author: Person) -> list[str]:
    """Whom else they follow is of other tests."""
    return [post["id"] for post in person.items("/v1/feed") if post["author"]["username"] == author.username]


def test_a_star_posts_and_all_who_follow_see_it_at_once_and_live(star: Person, crowd: list[Person]) -> None:
    with crowd[0].live() as one, crowd[1].live() as other:
        post = star.post_photo("To all of you")
        posted = time.monotonic()
        assert [feed_of(follower)[0] for follower in crowd] == [post["id"]] * MANY
        assert time.monotonic() - posted < 1.0
        for live in (one, other):
            assert live.event("feed.post_created", 1.0)["data"] == crowd[0].get(f"/v1/posts/{post['id']}")
        assert not any(member.startswith(post["id"]) for follower in crowd for member in kept_of(follower))
        star.delete(f"/v1/posts/{post['id']}")
        assert one.event("feed.post_deleted")["data"] == {"id": post["id"]}
        assert all(post["id"] not in feed_of(follower) for follower in crowd)
    assert feed_of(star) == []


def test_a_repost_of_a_stars_is_seen_and_undone(star: Person, crowd: list[Person], stack: Stack) -> None:
    post = sign_up(stack).post_photo("Look")["id"]
    with crowd[0].live() as live:
        star.put(f"/v1/posts/{post}/repost")
        shown = crowd[0].get("/v1/feed")["items"][0]
        assert (shown["id"], shown["reposted_by"]["username"]) == (post, star.username)
        assert live.event("feed.post_created")["data"] == shown
        assert feed_of(star) == [post]
        star.delete(f"/v1/posts/{post}/repost")
        assert live.event("feed.post_deleted")["data"] == {"id": post, "reposted_by": shown["reposted_by"]}
        assert post not in feed_of(crowd[0])


def test_a_warm_read_takes_two_trips_to_redis_and_none_to_postgres(star: Person, crowd: list[Person]) -> None:
    post = star.post_photo("Warm")["id"]
    assert feed_of(crowd[0])[0] == post
    answer = crowd[0].ask("GET", "/v1/feed")
    assert (trips(answer, "redis"), trips(answer, "postgres")) == (2, 0), answer.headers["server-timing"]


def test_nothing_is_lost_or_doubled_as_an_author_rises_and_falls(stack: Stack, crowd: list[Person]) -> None:
    author = sign_up(stack)
    posts: list[str] = []

    def post() -> None:
        posts.insert(0, author.post_photo(f"Number {len(posts)}", seed=len(posts))["id"])
        for follower in following:
            # Fanned out or merged in, it is a second at most.
            wait_until(lambda follower=follower: of_author(follower, author)[:1] == posts[:1], 2.0)
            assert of_author(follower, author) == posts

    following: list[Person] = []
    for _ in range(2):
        for follower in crowd:
            follower.follow(author.username)
            following.append(follower)
            post()
        wait_until(lambda: is_settled(id_of(author)))
        post()
        # Below MANY, not yet below four fifths of it.
        crowd[0].delete(f"/v1/users/{author.username}/follow")
        following.remove(crowd[0])
        post()
        assert is_settled(id_of(author))
        crowd[1].delete(f"/v1/users/{author.username}/follow")
        following.remove(crowd[1])
        wait_until(lambda: not is_settled(id_of(author)))
        post()
        author.delete(f"/v1/posts/{posts.pop(0)}")
        wait_until(lambda: of_author(crowd[2], author) == posts)
        crowd[2].delete(f"/v1/users/{author.username}/follow")
        following.clear()
        assert of_author(crowd[2], author) == []
        post()


def test_what_is_posted_while_they_rise_is_not_lost(stack: Stack, crowd: list[Person]) -> None:
    author = sign_up(stack)
    for follower in crowd[:-1]:
        follower.follow(author.username)
    assert of_author(crowd[0], author) == []
    with standing_still(stack, "relay"):
        crowd[-1].follow(author.username)
        posts = [author.post_photo(f"Number {n}", seed=n)["id"] for n in range(3)][::-1]
    wait_until(lambda: is_settled(id_of(author)))
    posts.insert(0, author.post_photo("After")["id"])
    wait_until(lambda: all(of_author(follower, author) == posts for follower in crowd))


def test_pages_are_full_and_stable_however_many_are_merged(stack: Stack, crowd: list[Person]) -> None:
    reader = sign_up(stack)
    authors = [sign_up(stack) for _ in range(4)]
    for author in authors[:3]:
        gather(author, crowd)
    for author in authors:
        reader.follow(author.username)
    posts = [authors[n % 4].post_photo(f"Number {n}", seed=n)["id"] for n in range(14)][::-1]
    wait_until(lambda: feed_of(reader) == posts)
    assert len([member for member in kept_of(reader) if member.startswith("~")]) == 4
    for limit in (1, 2, 5):
        assert feed_of(reader, limit) == posts
        seen: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = reader.get("/v1/feed", limit=limit, **cursor)
            seen += [post["id"] for post in page["items"]]
            if page["next_cursor"] is None:
                break
            assert len(page["items"]) == limit
            cursor = {"cursor": page["next_cursor"]}
            if limit == 5:
                authors[0].post_photo("In between")
        assert seen == posts


def test_paging_goes_on_beyond_what_redis_keeps(star: Person, crowd: list[Person], stack: Stack) -> None:
    reader, other = sign_up(stack), sign_up(stack)
    posts = insert_posts(star, TOLD.keep + 30, days_ago=2) + insert_posts(other, 40, days_ago=3)
    for author in (star, other):
        reader.follow(author.username)
    cache.run_sync(TOLD.forget(id_of(star)))
    assert feed_of(reader, 100) == posts


@pytest.mark.parametrize("how", ["mute", "block", "blocked", "unfollow"])
def test_who_is_not_to_see_a_star_does_not(star: Person, crowd: list[Person], how: str) -> None:
    reader = crowd[0]
    # Nobody is told of the first: it would still be under way when it is hidden.
    wait_until(lambda: is_away(reader))
    post = star.post_photo("Not for you")["id"]
    assert feed_of(reader)[0] == post
    match how:
        case "unfollow":
            reader.delete(f"/v1/users/{star.username}/follow")
        case "blocked":
            star.put(f"/v1/users/{reader.username}/block")
        case _:
            reader.put(f"/v1/users/{star.username}/{how}")
    with reader.live() as live:
        again = star.post_photo("Nor this")["id"]
        wait_until(lambda: feed_of(crowd[1])[0] == again)
        wait_until(outbox_is_empty)
        assert not {post, again} & {*feed_of(reader)}
        assert [event for event in live.drain() if event["event"].startswith("feed.")] == []
    if how == "mute":
        reader.delete(f"/v1/users/{star.username}/mute")
        assert feed_of(reader)[:2] == [again, post]


def test_a_star_who_is_suspended_is_gone_and_comes_back_with_what_was_theirs(
    star: Person, crowd: list[Person], stack: Stack
) -> None:
    theirs, other = star.post_photo("Mine")["id"], sign_up(stack).post_photo("Another's")["id"]
    star.put(f"/v1/posts/{other}/repost")
    assert feed_of(crowd[0])[:2] == [other, theirs]
    moderator = promoted(sign_up(stack))
    about = {"subject": {"type": "user", "id": star.username}, "reason": "spam"}
    report = crowd[0].post("/v1/reports", about)["id"]
    moderator.post(f"/v1/reports/{report}/resolution", {"action": "suspend"})
    assert not {theirs, other} & {*feed_of(crowd[0])}
    assert unsuspend(star.username)
    wait_until(lambda: feed_of(crowd[0])[:2] == [other, theirs])


def test_a_star_who_is_deleted_leaves_nothing(star: Person, crowd: list[Person]) -> None:
    star_id, post = id_of(star), star.post_photo("Mine")["id"]
    assert feed_of(crowd[0])[0] == post
    assert star.ask("DELETE", "/v1/me", {"password": PASSWORD}).status_code == 204
    assert post not in feed_of(crowd[0])
    # With their row what Redis has of them goes, and they are merged no more.
    wait_until(lambda: cache.run_sync(("EXISTS", TOLD.key(star_id))) == [0])
    wait_until(lambda: not is_settled(star_id))
    # Nor does it come back with who reads while their feed has the mark still.
    with marked(crowd[0], star_id):
        assert post not in feed_of(crowd[0])
        assert cache.run_sync(("EXISTS", TOLD.key(star_id))) == [0]


@contextmanager
def marked(follower: Person, author_id: int) -> Iterator[None]:
    """As their feed is until the end of their follow has been heard."""
    feed, mark = id_of(follower), mark_of(author_id)

    def mark_it() -> bool:
        feed_of(follower)  # what was dropped is built again
        cache.run_sync(FEEDS.add_to_all([feed], [mark]))
        return mark in kept_of(follower)

    wait_until(mark_it)
    yield
    cache.run_sync(("ZREM", FEEDS.key(feed), mark))


def outbox_is_empty() -> bool:
    with db.connection() as conn:
        return OUTBOX.maybe(conn) is None


def test_who_was_away_is_told_to_read_anew(star: Person, crowd: list[Person]) -> None:
    here, away = crowd[:2]
    with here.live() as listening:
        with away.live() as live:
            star.post_photo("Heard")
            last = live.event("feed.post_created")
        wait_until(lambda: is_away(away))
        star.post_photo("Missed")
        wait_until(lambda: len(listening.drain()) == 2)
        with away.live() as live:
            assert live.act("resume", {"after": last["seq"]})["data"]["resync"] is True


def test_a_rise_marks_chunk_after_chunk_and_settles_at_the_end(
    stack: Stack, crowd: list[Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    author = sign_up(stack)
    monkeypatch.setattr(actions, "CHUNK", 2)
    with standing_still(stack, "relay"):
        for follower in crowd:
            follower.follow(author.username)
            assert of_author(follower, author) == []
        actions.follow_changed(FollowChanged(id_of(crowd[0]), id_of(author), 1, 1))
        actions.follow_changed(FollowChanged(id_of(crowd[0]), id_of(author), 1, 1))
        (first,) = taken()
        for _ in range(2):
            actions.merge(first)
        assert [mark_of(id_of(author)) in kept_of(follower) for follower in crowd] == [True, True, False]
        assert not is_settled(id_of(author))
        (last,) = taken()
        # One of an earlier rise settles nothing.
        actions.merge(msgspec.structs.replace(last, rise_id=last.rise_id - 1))
        assert not is_settled(id_of(author))
        actions.merge(last)
        assert is_settled(id_of(author))
        assert taken() == []
        assert all(mark_of(id_of(author)) in kept_of(follower) for follower in crowd)


def taken() -> list[MergeChunk]:
    """The chunks in the outbox, taken out as the relay would."""
    with db.connection() as conn:
        return [msgspec.json.decode(row.payload, type=MergeChunk) for row in TAKE.all(conn)]


def test_a_feed_that_more_are_merged_into_than_may_be_is_read_of_postgres(
    star: Person, crowd: list[Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    post = star.post_photo("Still there")["id"]
    reader = id_of(crowd[0])
    monkeypatch.setattr(reads, "MERGED_MOST", 0)
    cache.run_sync(FEEDS.forget(reader))
    # Each of its pages asks for it to be built: that is one question, and nothing is kept.
    assert asyncio.run(counted(reads.build(reader))) == (False, {"redis": 1, "postgres": 1})
    assert cache.run_sync(("EXISTS", FEEDS.key(reader))) == [0]
    monkeypatch.undo()
    assert feed_of(crowd[0])[0] == post


async def counted(built: Coroutine[Any, Any, bool]) -> tuple[bool, dict[str, int]]:
    """What came of building a feed, and how many trips it took to each store."""
    trips = ledger.open_ledger()
    return await built, {store: entry.trips for store, entry in trips.items()}


def test_verify_knows_feeds_with_marks_and_what_is_told(star: Person, crowd: list[Person]) -> None:
    posts = [star.post_photo(f"Number {n}", seed=n)["id"] for n in range(3)]
    feeds, told = [FEEDS.key(id_of(follower)) for follower in crowd], TOLD.key(id_of(star))
    assert all(posts[-1] in feed_of(follower) for follower in crowd)
    assert [*ALL["feed"].judge(feeds), *ALL["told"].judge([told])] == []
    cache.run_sync(("ZREM", told, kept(told, posts[1])), ("ZREM", feeds[0], mark_of(id_of(star))))
    assert [wrong.key for wrong in ALL["feed"].judge(feeds)] == feeds[:1]
    assert [wrong.key for wrong in ALL["told"].judge([told])] == [told]
    ALL["feed"].mend(feeds[:1])
    ALL["told"].mend([told])
    assert posts[1] in feed_of(crowd[0])


def kept(key: str, post: str) -> bytes:
    (members,) = cache.run_sync(("ZRANGE", key, f"[{post}", f"[{post}~", "BYLEX"))
    return members[0]


def test_a_mark_that_comes_while_a_feed_is_built_makes_it_not_complete() -> None:
    reader, author = ids.new_id(), ids.new_id()
    key = FEEDS.key(reader)
    cache.run_sync(("ZADD", key, 0, "~"), ("EXPIRE", key, 60))
    page, _ = asyncio.run(read_twice(reader, None, 1))
    assert page.complete
    cache.run_sync(("DEL", key), ("ZADD", key, 0, mark_of(author), 0, entry(1, reader)), ("EXPIRE", key, 60))
    page, untold = asyncio.run(read_twice(reader, None, 1))
    assert (page.complete, untold) == (False, [])


# For each list the places of its entries, and whether it is all there is.
LISTS = st.lists(
    st.tuples(st.lists(st.integers(1, 60), unique=True, max_size=25), st.booleans()), min_size=1, max_size=6
)
STEP = 10  # entries of different lists have different places


@given(
    lists=LISTS,
    stray=st.lists(st.integers(1, 60), unique=True, max_size=8),
    before=st.integers(1, 70),
    count=st.integers(1, 12),
)
@settings(max_examples=300, deadline=None)
def test_a_page_is_that_of_all_lists_together(
    lists: list[tuple[list[int], bool]], stray: list[int], before: int, count: int
) -> None:
    """The first list is the reader's own; each other one is of an author who is merged in."""
    start = ids.new_id()
    reader, *authors = owners = [start + n for n in range(len(lists))]
    commands: list[cache.Command] = []
    everything: list[str] = []
    for n, (owner, (places, whole)) in enumerate(zip(owners, lists, strict=True)):
        members = [entry(place * STEP + n, owner) for place in places]
        everything += members
        if owner == reader:
            members += map(mark_of, authors)
            # What is left in it of those who are merged in now counts for nothing.
            members += [entry(place * STEP + 9, author) for author in authors[:1] for place in stray]
        key = FEEDS.key(owner) if owner == reader else TOLD.key(owner)
        ends = ["~", "!"] if whole else ["~"]
        commands.append(("ZADD", key, *[piece for member in [*members, *ends] for piece in (0, member)]))
        commands.append(("EXPIRE", key, 60))
    cache.run_sync(*commands)
    # The second time it knows of an unmarked feed that it is one.
    page, untold = asyncio.run(read_twice(reader, before * STEP, count))
    wanted = sorted((one for one in everything if ids.decode(one[: ids.LENGTH]) < before * STEP), reverse=True)
    # Nothing is left out in between, and it is short only where a list that isn't whole has come to its end.
    assert (page.complete, untold) == (True, [])
    assert page.entries == wanted[: len(page.entries)]
    if all(whole for _, whole in lists):
        assert (len(page.entries), page.ended) == (min(count, len(wanted)), len(wanted) < count)
        return
    assert not page.ended
    ends = [min(places, default=before) * STEP + n for n, (places, whole) in enumerate(lists) if not whole]
    known = [one for one in wanted if ids.decode(one[: ids.LENGTH]) >= max(ends)]
    assert len(page.entries) >= min(count, len(known))


def entry(place: int, teller: int) -> str:
    return "".join(map(ids.encode, (place, place, teller)))


async def read_twice(reader: int, before: int | None, count: int) -> tuple[Slice, list[int]]:
    first = await projection.read(reader, before, count)
    assert await projection.read(reader, before, count) == first
    return first
