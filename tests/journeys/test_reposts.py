"""Reposts: in the followers' feeds and one's own, live, and gone from all of them when undone."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.client import Format, Person, wait_until

Trio = tuple[Person, Person, Person]


@pytest.fixture
def trio(person: Callable[[], Person]) -> Trio:
    """An author, someone who reposts, and someone who follows only that one."""
    author, reposter, reader = person(), person(), person()
    reader.follow(reposter.username)
    return author, reposter, reader


def card_of(person: Person) -> dict[str, Any]:
    return person.get("/v1/me")["user"]


def reposts(person: Person) -> list[tuple[str, str | None]]:
    """The feed as (post id, who reposted)."""
    return [(post["id"], post.get("reposted_by", {}).get("username")) for post in person.items("/v1/feed")]


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_a_repost_reaches_followers_and_leaves_when_undone(trio: Trio, format: Format) -> None:
    author, reposter, reader = trio
    reader = reader.speaking(format)
    post = author.post_photo("Worth telling")
    with reader.live() as live:
        shown = reposter.put(f"/v1/posts/{post['id']}/repost")
        assert shown["viewer"]["reposted"] is True
        assert "reposted_by" not in shown
        own = shown | {"reposted_by": card_of(reposter)}
        assert reposter.get("/v1/feed")["items"] == [own]
        told = live.event("feed.post_created")["data"]
        assert told == own | {"viewer": post["viewer"]}
        assert reader.get("/v1/feed")["items"] == [told]
        assert reader.get(f"/v1/posts/{post['id']}").keys() == post.keys()

        reposter.delete(f"/v1/posts/{post['id']}/repost")
        assert reposter.get("/v1/feed")["items"] == []
        assert live.event("feed.post_deleted")["data"] == {"id": post["id"], "reposted_by": card_of(reposter)}
        assert reader.get("/v1/feed")["items"] == []
    assert author.get("/v1/feed")["items"] == [post]
    assert reposter.get(f"/v1/users/{reposter.username}/posts")["items"] == []


def test_a_repost_is_told_to_be_gone_when_the_post_is_deleted(trio: Trio) -> None:
    author, reposter, reader = trio
    post = author.post_photo("Short-lived")
    with reader.live() as live:
        reposter.put(f"/v1/posts/{post['id']}/repost")
        live.event("feed.post_created")
        author.delete(f"/v1/posts/{post['id']}")
        assert live.event("feed.post_deleted")["data"] == {"id": post["id"], "reposted_by": card_of(reposter)}
        assert reader.get("/v1/feed")["items"] == []


def test_who_reacted_before_hears_of_it_as_they_see_it(trio: Trio) -> None:
    author, reposter, reader = trio
    post = author.post_photo("Seen before")
    reader.put(f"/v1/posts/{post['id']}/reaction", {"emoji": "👍"})
    with reader.live() as live:
        reposter.put(f"/v1/posts/{post['id']}/repost")
        assert [live.event("feed.post_created")["data"]] == reader.get("/v1/feed")["items"]


def test_the_same_post_comes_once_a_page_as_the_newest_entry(trio: Trio) -> None:
    author, reposter, reader = trio
    reader.follow(author.username)
    first = author.post_photo("First")["id"]
    second = author.post_photo("Second")["id"]
    wait_until(lambda: reposts(reader) == [(second, None), (first, None)])
    reposter.put(f"/v1/posts/{first}/repost")
    author.put(f"/v1/posts/{first}/repost")
    wait_until(lambda: reposts(reader) == [(first, author.username), (second, None)])
    pages = [post["id"] for post in reader.items("/v1/feed", limit=1)]
    assert pages == [first, second, first]
    author.delete(f"/v1/posts/{first}/repost")
    wait_until(lambda: reposts(reader) == [(first, reposter.username), (second, None)])
    reposter.delete(f"/v1/posts/{first}/repost")
    wait_until(lambda: reposts(reader) == [(second, None), (first, None)])


def test_following_brings_older_reposts_in_and_unfollowing_takes_them_out(trio: Trio, alice: Person) -> None:
    author, reposter, reader = trio
    old = author.post_photo("Old")["id"]
    own = reader.post_photo("My own")["id"]
    reposter.put(f"/v1/posts/{old}/repost")
    wait_until(lambda: reposts(reader) == [(old, reposter.username), (own, None)])
    alice.follow(reposter.username)
    assert reposts(alice) == [(old, reposter.username)]
    reader.delete(f"/v1/users/{reposter.username}/follow")
    assert reposts(reader) == [(own, None)]


def test_a_deleted_post_leaves_the_feeds_it_was_reposted_into(trio: Trio) -> None:
    author, reposter, reader = trio
    post = author.post_photo("Oops")["id"]
    reposter.put(f"/v1/posts/{post}/repost")
    wait_until(lambda: reposts(reader) == [(post, reposter.username)])
    author.delete(f"/v1/posts/{post}")
    assert reposts(reader) == reposts(reposter) == []


def test_reposted_again_it_is_a_new_entry(trio: Trio) -> None:
    author, reposter, reader = trio
    one, two = author.post_photo("One")["id"], author.post_photo("Two")["id"]
    for post in (one, two):
        reposter.put(f"/v1/posts/{post}/repost")
    wait_until(lambda: [post for post, _ in reposts(reader)] == [two, one])
    reposter.delete(f"/v1/posts/{one}/repost")
    reposter.put(f"/v1/posts/{one}/repost")
    assert [post for post, _ in reposts(reposter)] == [one, two]
    wait_until(lambda: [post for post, _ in reposts(reader)] == [one, two])
