"""Requests: what somebody writes whom one doesn't follow waits apart, tells nobody anything, and rings nothing."""

from collections.abc import Callable

from tests.chat.talk import acknowledge, chats, history, react, text, words_of, write
from tests.client import Person, wait_until


def boxes(person: Person) -> tuple[int, int]:
    """How many chats are in the inbox, and how many requests."""
    return len(chats(person)), len(chats(person, "requests"))


def test_a_request_is_read_in_secret_until_it_is_accepted(alice: Person, bob: Person) -> None:
    alice.follow(bob.username)
    said = write(alice, bob, "You don't know me")
    assert (boxes(alice), boxes(bob)) == ((1, 0), (0, 1))
    assert bob.get("/v1/me")["unread"]["chats"] == 0
    (request,) = chats(bob, "requests")
    assert (request["with"]["username"], request["unread_count"]) == (alice.username, 1)
    assert words_of(history(bob, alice)) == ["You don't know me"]

    read = acknowledge(bob, alice, read_up_to=said)
    assert (read["unread_count"], read["last_message"]["status"]) == (0, "sent")
    assert chats(bob, "requests") == [read]
    (seen,) = history(alice, bob)
    assert (seen["status"], seen["delivered_at"], seen["read_at"]) == ("sent", None, None)
    assert boxes(bob) == (0, 1)

    accepted = bob.put(f"/v1/chats/{alice.username}/accept")
    assert accepted["last_message"]["status"] == "read"
    assert chats(bob) == [accepted]
    assert boxes(bob) == (1, 0)
    assert history(alice, bob)[0]["status"] == "read"
    assert bob.put(f"/v1/chats/{alice.username}/accept") == accepted
    later = write(alice, bob, "Now you do")
    assert bob.get("/v1/me")["unread"]["chats"] == 1
    acknowledge(bob, alice, delivered_up_to=later)
    assert history(alice, bob)[0]["status"] == "delivered"


def test_accepting_what_was_not_read_tells_nothing(alice: Person, bob: Person) -> None:
    write(alice, bob, "Unread")
    accepted = bob.put(f"/v1/chats/{alice.username}/accept")
    assert (accepted["unread_count"], accepted["last_message"]["status"]) == (1, "sent")
    assert history(alice, bob)[0]["status"] == "sent"


def test_what_was_declined_stays_away_until_that_is_taken_back(alice: Person, bob: Person) -> None:
    said = write(alice, bob, "Buy this")
    bob.put(f"/v1/chats/{alice.username}/decline")
    assert boxes(bob) == (0, 0)
    acknowledge(bob, alice, read_up_to=said)
    write(alice, bob, "And this")
    assert boxes(bob) == (0, 0)
    assert bob.get("/v1/me")["unread"]["chats"] == 0
    # Whom it is declined is not told.
    assert [one["status"] for one in history(alice, bob)] == ["sent", "sent"]
    assert boxes(alice) == (1, 0)
    bob.put(f"/v1/chats/{alice.username}/decline")
    bob.put(f"/v1/chats/{alice.username}/accept")
    assert [chat["unread_count"] for chat in chats(bob)] == [1]


def test_who_writes_back_has_accepted(alice: Person, bob: Person) -> None:
    said = write(alice, bob, "Hello?")
    unseen = write(alice, bob, "Anybody?")
    acknowledge(bob, alice, read_up_to=said)
    with alice.live() as hers:
        write(bob, alice, "Hello")
        assert hers.event("message.acknowledged")["data"]["read_up_to"] == said["id"]
    assert (boxes(alice), boxes(bob)) == ((1, 0), (1, 0))
    assert [one["status"] for one in history(alice, bob)] == ["sent", "sent", "read"]
    acknowledge(bob, alice, read_up_to=unseen)
    assert [one["status"] for one in history(alice, bob)] == ["sent", "read", "read"]


def test_who_follows_is_written_to_as_a_friend(alice: Person, bob: Person, person: Callable[[], Person]) -> None:
    write(alice, bob, "Hello?")
    bob.follow(alice.username)
    assert boxes(bob) == (0, 1)
    write(alice, bob, "Thanks")
    assert boxes(bob) == (1, 0)
    carol = person()
    carol.follow(alice.username)
    write(alice, carol, "Hello")
    assert boxes(carol) == (1, 0)
    carol.delete(f"/v1/users/{alice.username}/follow")
    write(alice, carol, "Still here")
    assert boxes(carol) == (1, 0)


def test_a_request_rings_nothing_until_it_is_accepted(alice: Person, bob: Person) -> None:
    with alice.live() as hers, bob.live() as his:
        said = write(alice, bob, "Ring ring")
        assert hers.event("message.created")["data"] == said
        alice.patch(f"/v1/messages/{said['id']}", {"content": text("Ring!")})
        hers.event("message.edited")
        react(alice, said, "👍")
        hers.event("message.reacted")
        acknowledge(bob, alice, read_up_to=said)
        # His own devices are told what he has read.
        assert his.event("message.acknowledged")["data"]["read_up_to"] == said["id"]
        gone = write(alice, bob, "Oops")
        alice.delete(f"/v1/messages/{gone['id']}?for=everyone")
        hers.event("message.deleted")
        assert {event["event"] for event in his.drain()} == {"message.acknowledged"}
        assert "message.acknowledged" not in {event["event"] for event in hers.drain()}

        bob.put(f"/v1/chats/{alice.username}/accept")
        told = hers.event("message.acknowledged")["data"]
        assert (told["chat_with"]["username"], told["user"]["username"]) == (bob.username, bob.username)
        assert told["read_up_to"] == told["delivered_up_to"] == said["id"]
        later = write(alice, bob, "Finally")
        wait_until(lambda: any(event["data"].get("id") == later["id"] for event in his.drain()))
