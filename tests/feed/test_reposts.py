"""Reposts in feeds: who doesn't see them, and that one undone stays out, however late its fan-out comes."""

from collections.abc import Callable

import pytest

from shared.feed.model import FEEDS, Entry, FeedRepost, shown, withdrawn
from shared.kernel import cache, ids
from shared.profiles import reads as profiles
from tests.client import Person, wait_until


def id_of(person: Person) -> int:
    return profiles.named([person.username])[person.username]


def hide(one: Person, other: Person, how: str) -> None:
    """`one` blocks or mutes `other`."""
    one.put(f"/v1/users/{other.username}/{how}")


def feed_of(person: Person) -> list[str]:
    return [post["id"] for post in person.items("/v1/feed")]


@pytest.fixture
def trio(person: Callable[[], Person]) -> tuple[Person, Person, Person]:
    author, reposter, reader = person(), person(), person()
    reader.follow(reposter.username)
    assert feed_of(reader) == []
    return author, reposter, reader


HIDING = [("mute", 2, 0), ("mute", 2, 1), ("block", 2, 0), ("block", 0, 2), ("block", 1, 2)]


@pytest.mark.parametrize(("how", "one", "other"), HIDING)
@pytest.mark.parametrize("when", ["before", "after"])
def test_not_across_a_block_nor_a_mute_of_author_or_reposter(
    trio: tuple[Person, Person, Person], how: str, one: int, other: int, when: str
) -> None:
    author, reposter, reader = trio
    post = author.post_photo("Reposted")["id"]
    marker = reader.post_photo("Mine")["id"]
    if when == "before":
        hide(trio[one], trio[other], how)
    with reader.live() as live:
        reposter.put(f"/v1/posts/{post}/repost")
        if when == "after":
            wait_until(lambda: feed_of(reader) == [post, marker])
            hide(trio[one], trio[other], how)
        wait_until(lambda: author.get("/v1/notifications")["items"])
        assert feed_of(reader) == [marker]
        cache.run_sync(("DEL", FEEDS.key(id_of(reader))))
        assert feed_of(reader) == [marker]
        heard = [event["data"]["id"] for event in live.drain() if event["event"] == "feed.post_created"]
        heard = [one for one in heard if one != marker]
        assert heard == ([post] if when == "after" else [])


def test_one_undone_stays_out_however_late_it_is_shown(trio: tuple[Person, Person, Person]) -> None:
    author, reposter, reader = trio
    post = ids.decode(author.post_photo("Reposted")["id"])
    owner = id_of(reader)
    first, second = (Entry(post, id_of(author), FeedRepost(ids.new_id() + n, id_of(reposter))) for n in range(2))
    for command in (shown([owner], first), *withdrawn([owner], first), shown([owner], first), shown([owner], second)):
        cache.run_sync(command)
    found = FEEDS.take(cache.run_sync(*FEEDS.ask(owner, None, 10)), 10)
    assert (found.entries, found.complete) == ([second.encoded()], True)
    cache.run_sync(*withdrawn([owner], second))


def test_a_page_is_full_though_posts_come_more_than_once(trio: tuple[Person, Person, Person]) -> None:
    author, reposter, reader = trio
    posts = [author.post_photo(f"Number {n}", seed=n)["id"] for n in range(6)]
    reader.follow(author.username)
    for post in posts:
        reposter.put(f"/v1/posts/{post}/repost")
    wait_until(lambda: len(reader.get("/v1/feed", limit=100)["items"]) == 6)
    wait_until(lambda: all("reposted_by" in post for post in reader.get("/v1/feed")["items"]))
    page = reader.get("/v1/feed", limit=4)
    assert [post["id"] for post in page["items"]] == posts[:1:-1]
    rest = reader.get("/v1/feed", limit=100, cursor=page["next_cursor"])
    assert [post["id"] for post in rest["items"]] == [*posts[1::-1], *posts[:1:-1]]
