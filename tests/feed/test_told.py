"""A feed as a device keeps it by what it is told is the one that a fresh read shows."""

from collections.abc import Callable

import pytest

from infra.local.stack import Stack
from tests.client import PASSWORD, Format, Live, Person, wait_until
from tests.heard import wait_until_heard

Feed = dict[str, str | None]


def fresh(person: Person) -> Feed:
    """The posts in a feed, and by whose reposts they show."""
    return {post["id"]: post.get("reposted_by", {}).get("username") for post in person.items("/v1/feed")}


def kept(live: Live) -> Feed:
    """The same by all that a device has heard since the feed was empty."""
    feed: Feed = {}
    for event in live.events:
        if event["event"] == "feed.post_created":
            feed[event["data"]["id"]] = event["data"].get("reposted_by", {}).get("username")
        elif event["event"] == "feed.post_deleted":
            feed.pop(event["data"]["id"], None)
    return feed


def hear(live: Live, person: Person, feed: Feed) -> None:
    """Listen until a device keeps this feed; it is what a read shows."""
    while kept(live) != feed:
        live.receive()
    wait_until(lambda: fresh(person) == feed)


@pytest.mark.parametrize(
    "otherwise",
    ["not", "by its author", "by an earlier repost", "by a later repost", "by one's own", "by one who is muted"],
)
def test_a_repost_that_is_undone_leaves_what_else_shows_the_post(
    stack: Stack, person: Callable[[], Person], otherwise: str
) -> None:
    author, reposter, other, reader = (person() for _ in range(4))
    for followed in (reposter, other, *([author] if otherwise == "by its author" else [])):
        reader.follow(followed.username)
    with reader.live() as live:
        path = f"/v1/posts/{author.post_photo()['id']}/repost"
        if otherwise in ("by an earlier repost", "by one who is muted"):
            other.put(path)
        elif otherwise == "by one's own":
            reader.put(path)
        wait_until_heard(stack)
        reposter.put(path)
        wait_until_heard(stack)
        live.drain()
        assert kept(live) == fresh(reader)
        assert [*fresh(reader).values()] == [reposter.username]
        if otherwise == "by a later repost":
            other.put(path)
        elif otherwise == "by one who is muted":
            reader.put(f"/v1/users/{other.username}/mute")
        wait_until_heard(stack)
        count = len(live.drain())
        reposter.delete(path)
        wait_until_heard(stack)
        live.drain()
        assert kept(live) == fresh(reader)
        by = {"by its author": None, "by one's own": reader.username}
        shown = [] if otherwise in ("not", "by one who is muted") else [by.get(otherwise, other.username)]
        assert [*fresh(reader).values()] == shown
        # What a later repost showed all the while is not told again.
        assert len(live.events) == count + (otherwise != "by a later repost")


def test_what_is_left_of_several_reposts_goes_one_by_one(person: Callable[[], Person]) -> None:
    author, reader, *reposters = (person() for _ in range(5))
    post = author.post_photo()["id"]
    for reposter in reposters:
        reader.follow(reposter.username)
    with reader.live() as live:
        for reposter in reposters:
            reposter.put(f"/v1/posts/{post}/repost")
            hear(live, reader, {post: reposter.username})
        for reposter, left in zip(reversed(reposters), [*reversed(reposters[:-1]), None], strict=True):
            reposter.delete(f"/v1/posts/{post}/repost")
            hear(live, reader, {post: left.username} if left else {})


def test_an_account_that_goes_leaves_what_else_shows_what_it_reposted(
    stack: Stack, person: Callable[[], Person]
) -> None:
    author, reposter, reader = (person() for _ in range(3))
    for followed in (author, reposter):
        reader.follow(followed.username)
    with reader.live() as live:
        post = author.post_photo()["id"]
        wait_until_heard(stack)
        reposter.put(f"/v1/posts/{post}/repost")
        hear(live, reader, {post: reposter.username})
        assert reposter.ask("DELETE", "/v1/me", {"password": PASSWORD}).status_code == 204
        hear(live, reader, {post: None})


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_one_s_own_posts_and_reposts_are_told_to_one_s_other_devices(
    alice: Person, bob: Person, format: Format
) -> None:
    alice = alice.speaking(format)
    with alice.live() as live:
        post = alice.post_photo("Mine")
        assert live.event("feed.post_created")["data"] == post == alice.get("/v1/feed")["items"][0]
        other = bob.post_photo("Another's")["id"]
        alice.put(f"/v1/posts/{other}/repost")
        hear(live, alice, {post["id"]: None, other: alice.username})
        told = live.events[-1]["data"]
        assert told == alice.get("/v1/feed")["items"][0]
        assert told["viewer"]["reposted"] is True
        alice.delete(f"/v1/posts/{other}/repost")
        hear(live, alice, {post["id"]: None})
        alice.delete(f"/v1/posts/{post['id']}")
        hear(live, alice, {})
