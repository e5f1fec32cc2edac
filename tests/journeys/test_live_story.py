"""The story with the follower on a socket: what is told live is what a fresh read shows."""

from typing import Any

import pytest

from tests.client import Format, Person


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_a_follower_sees_a_post_arrive(alice: Person, bob: Person, format: Format) -> None:
    bob = bob.speaking(format)
    bob.follow(alice.username)
    with bob.live() as live:
        post = alice.post_photo(f"Look, @{bob.username}! #лето")
        told = live.event("feed.post_created")
        assert told["data"] == bob.get(f"/v1/posts/{post['id']}")
        assert bob.get("/v1/feed")["items"] == [told["data"]]
        noted = live.event("notification.created")
        assert [noted["data"]] == bob.get("/v1/notifications")["items"]
        assert noted["data"]["type"] == "mention"

        alice.delete(f"/v1/posts/{post['id']}")
        assert live.event("feed.post_deleted")["data"] == {"id": post["id"]}
        assert live.event("notification.revoked")["data"] == {"id": noted["data"]["id"]}
        assert bob.get("/v1/feed")["items"] == []
        assert bob.get("/v1/notifications")["items"] == []
        in_order(live.drain())


def test_someone_followed_hears_of_it(alice: Person, bob: Person) -> None:
    with alice.live() as live:
        bob.follow(alice.username)
        noted = live.event("notification.created")["data"]
        assert noted["type"] == "follow"
        assert [actor["username"] for actor in noted["actors"]] == [bob.username]
        bob.delete(f"/v1/users/{alice.username}/follow")
        assert live.event("notification.revoked")["data"] == {"id": noted["id"]}


def test_every_device_hears_and_strangers_do_not(alice: Person, bob: Person, person: Any) -> None:
    stranger = person()
    bob.follow(alice.username)
    with bob.live() as phone, bob.live() as laptop, stranger.live() as elsewhere:
        post = alice.post_photo("To my followers")
        assert phone.event("feed.post_created") == laptop.event("feed.post_created")
        assert phone.event("feed.post_created")["data"]["id"] == post["id"]
        assert elsewhere.drain() == []


def test_who_comes_back_is_told_what_was_missed(alice: Person, bob: Person) -> None:
    bob.follow(alice.username)
    with bob.live() as laptop:
        with bob.live() as phone:
            first = alice.post_photo("One")
            seen = phone.event("feed.post_created")
            assert seen["data"]["id"] == first["id"]
        missed = [alice.post_photo(text)["id"] for text in ("Two", "Three")]
        while len(laptop.events) < 1 + len(missed):
            laptop.receive()
        with bob.live() as phone:
            assert phone.act("resume", {"after": seen["seq"]})["ok"] is True
            while len(phone.events) < len(missed):
                phone.receive()
            assert [event["data"]["id"] for event in phone.drain()] == missed
            in_order([seen, *phone.events])
            assert [seen, *phone.events] == laptop.events


def test_signing_out_closes_the_sockets_of_that_session(alice: Person) -> None:
    with alice.live() as live:
        assert alice.ask("POST", "/v1/logout").status_code == 204
        assert live.close_code() == 4401
        assert live.events[-1]["event"] == "session.ended"
    assert alice.ask("GET", "/v1/me").status_code == 401


def in_order(events: list[dict[str, Any]]) -> None:
    """Personal events have a growing seq."""
    numbers = [event["seq"] for event in events]
    assert numbers == sorted(set(numbers))
