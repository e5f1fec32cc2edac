"""You read your own writes, with every background function and the relay standing still."""

from collections.abc import Iterator
from typing import Any

import pytest

from infra.local.stack import Stack
from tests.chat.talk import acknowledge, react, write
from tests.client import Person, standing_still, wait_until


# They sign up first: that needs a mail.
@pytest.fixture
def nothing_behind(stack: Stack, alice: Person, bob: Person) -> Iterator[None]:
    with standing_still(stack, "background", "relay"):
        yield


@pytest.mark.usefixtures("nothing_behind")
def test_what_is_written_is_read_at_once(alice: Person, bob: Person) -> None:
    # Asked before, so that Redis holds what the writes make stale.
    alice.get("/v1/feed")
    alice.get(f"/v1/users/{bob.username}")
    bob.get(f"/v1/users/{alice.username}")

    assert alice.follow(bob.username) == alice.get(f"/v1/users/{bob.username}")
    assert alice.get("/v1/me")["counts"] == {"posts": 0, "followers": 0, "following": 1}
    assert bob.get(f"/v1/users/{alice.username}")["viewer"]["followed_by"] is True

    posts = [alice.post_photo(f"Number {n}", seed=n) for n in range(3)]
    assert alice.get(f"/v1/posts/{posts[0]['id']}") == posts[0]
    assert alice.get("/v1/feed")["items"] == posts[::-1]
    assert alice.get(f"/v1/users/{alice.username}/posts")["items"] == posts[::-1]
    assert alice.get("/v1/me")["counts"]["posts"] == 3

    alice.delete(f"/v1/posts/{posts[1]['id']}")
    assert alice.get("/v1/feed")["items"] == [posts[2], posts[0]]
    assert alice.ask("GET", f"/v1/posts/{posts[1]['id']}").status_code == 404

    alice.delete(f"/v1/users/{bob.username}/follow")
    assert alice.get(f"/v1/users/{bob.username}")["viewer"]["following"] is False
    assert alice.get(f"/v1/users/{bob.username}")["counts"]["followers"] == 0


@pytest.mark.usefixtures("nothing_behind")
def test_whom_one_follows_is_in_the_feed_at_once(alice: Person, bob: Person) -> None:
    post = bob.post_photo("Older than the follow")
    own = alice.post_photo("My own")
    assert alice.get("/v1/feed")["items"] == [own]
    alice.follow(bob.username)
    assert alice.get("/v1/feed")["items"] == [own, post]
    alice.delete(f"/v1/users/{bob.username}/follow")
    assert alice.get("/v1/feed")["items"] == [own]
    alice.follow(bob.username)
    assert alice.get("/v1/feed")["items"] == [own, post]


@pytest.mark.usefixtures("nothing_behind")
def test_what_is_said_in_a_chat_is_read_at_once(alice: Person, bob: Person) -> None:
    def seen(person: Person, other: Person) -> list[Any]:
        return person.get(f"/v1/chats/{other.username}/messages")["items"]

    bob.follow(alice.username)
    assert seen(alice, bob) == seen(bob, alice) == bob.get("/v1/chats")["items"] == []
    said = write(alice, bob, "Now")
    assert seen(alice, bob) == [said]
    assert [chat["unread_count"] for chat in bob.get("/v1/chats")["items"]] == [1]
    assert acknowledge(bob, alice, read_up_to=said) == bob.get("/v1/chats")["items"][0]
    assert [one["status"] for one in seen(alice, bob)] == ["read"]
    assert react(bob, said, "👍")["reactions"] == seen(alice, bob)[0]["reactions"]
    edited = alice.patch(f"/v1/messages/{said['id']}", {"content": {"type": "text", "text": "Then"}})
    assert seen(alice, bob) == [edited]
    alice.delete(f"/v1/messages/{said['id']}")
    assert (seen(alice, bob), len(seen(bob, alice))) == ([], 1)
    bob.delete(f"/v1/chats/{alice.username}")
    assert seen(bob, alice) == bob.get("/v1/chats")["items"] == []


def test_what_stood_still_goes_on(alice: Person, bob: Person, stack: Stack) -> None:
    with standing_still(stack, "background"):
        bob.follow(alice.username)
        post = alice.post_photo(f"Later, @{bob.username}")
    wait_until(lambda: bob.get("/v1/feed")["items"] == [post], 60)
    wait_until(lambda: bob.get("/v1/notifications")["items"], 60)
