"""Who comes back is not told what has been hidden from them since, nor what is no longer said: they read anew."""

import base64
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from websockets.sync.client import connect

from infra.leaks.plant import make_moderator, suspend
from infra.local.stack import Stack
from shared.kernel import cache, events, ids
from shared.live import publish
from tests.chat.talk import friends, upload_photo, write
from tests.client import PASSWORD, Person, standing_still, wait_until
from tests.feed.merging import id_of
from tests.heard import wait_until_heard
from tests.live.test_gaps import JSON, bearer


class Told(events.Event, frozen=True):
    """These changes come in while what is told of is being read."""

    changes: list[int]
    known: int | None


@pytest.fixture
def seen(alice: Person, bob: Person) -> int:
    """The seq that bob's phone, which is away now, has seen last: the two are friends."""
    friends(alice, bob)
    with bob.live() as phone:
        write(alice, bob, "Are you there?")
        return phone.event("message.created")["seq"]


def replayed(person: Person, after: int) -> list[dict[str, Any]]:
    with person.live() as phone:
        assert phone.act("resume", {"after": after})["ok"] is True
        return phone.drain()


def heard(person: Person, after: int, *names: str) -> bool:
    told = [event["event"] for event in replayed(person, after)]
    return all(name in told for name in names)


def block(alice: Person, bob: Person, said: dict[str, Any]) -> None:
    alice.put(f"/v1/users/{bob.username}/block")


def block_back(alice: Person, bob: Person, said: dict[str, Any]) -> None:
    bob.put(f"/v1/users/{alice.username}/block")


def leave(alice: Person, bob: Person, said: dict[str, Any]) -> None:
    alice.delete("/v1/me", {"password": PASSWORD})


def take_back(alice: Person, bob: Person, said: dict[str, Any]) -> None:
    alice.ask("DELETE", f"/v1/messages/{said['id']}?for=everyone").raise_for_status()


def edit(alice: Person, bob: Person, said: dict[str, Any]) -> None:
    alice.patch(f"/v1/messages/{said['id']}", {"content": {"type": "text", "text": "Better words"}})


def hide(alice: Person, bob: Person, said: dict[str, Any]) -> None:
    bob.ask("DELETE", f"/v1/messages/{said['id']}?for=me").raise_for_status()


def clear(alice: Person, bob: Person, said: dict[str, Any]) -> None:
    bob.ask("DELETE", f"/v1/chats/{alice.username}").raise_for_status()


def decline(alice: Person, bob: Person, said: dict[str, Any]) -> None:
    bob.put(f"/v1/chats/{alice.username}/decline")


CHANGES = [block, block_back, leave, take_back, edit, hide, clear, decline]


@pytest.mark.parametrize("change", CHANGES)
def test_a_message_is_not_told_once_it_is_hidden_or_changed(
    stack: Stack, alice: Person, bob: Person, seen: int, change: Callable[[Person, Person, dict[str, Any]], None]
) -> None:
    said = write(alice, bob, "Regretted words")
    wait_until(lambda: heard(bob, seen, "message.created"))
    # From the moment that it is done, whenever its event is heard.
    with standing_still(stack, "background", "relay"):
        change(alice, bob, said)
        assert [event["event"] for event in replayed(bob, seen)] == ["resync"]
    # And no more than that: who blocks is told to read anew besides.
    wait_until_heard(stack)
    assert [event["event"] for event in replayed(bob, seen)] == ["resync"]


@pytest.mark.parametrize("how", ["edit", "delete", "mute", "unfollow", "block", "suspend"])
def test_a_post_is_not_told_from_the_moment_that_it_is_hidden_or_changed(
    stack: Stack, alice: Person, bob: Person, seen: int, person: Callable[[], Person], how: str
) -> None:
    carol, moderator = person(), make_moderator(stack)
    post = alice.post_photo(f"Regretted words for @{carol.username}")
    wait_until(lambda: heard(bob, seen, "feed.post_created"))
    with standing_still(stack, "background", "relay"):
        match how:
            case "edit":
                alice.patch(f"/v1/posts/{post['id']}", {"description": "Better words"})
            case "delete":
                alice.delete(f"/v1/posts/{post['id']}")
            case "mute":
                bob.put(f"/v1/users/{alice.username}/mute")
            case "unfollow":
                bob.delete(f"/v1/users/{alice.username}/follow")
            case "block":
                # It is still alice's to see, and bob's, but carol's name is not for bob any more.
                carol.put(f"/v1/users/{bob.username}/block")
            case _:
                suspend(stack, carol, moderator)
        assert [event["event"] for event in replayed(bob, seen)] == ["resync"]


def test_one_who_stops_following_reads_anew_everywhere_and_one_who_is_blocked_hears_nothing(
    stack: Stack, alice: Person, bob: Person, seen: int, person: Callable[[], Person]
) -> None:
    carol = person()
    carol.follow(alice.username)
    with bob.live() as his, carol.live() as hers:
        bob.delete(f"/v1/users/{alice.username}/follow")
        his.event("resync")
        alice.put(f"/v1/users/{carol.username}/block")
        wait_until_heard(stack)
        assert [event["event"] for event in his.drain()].count("resync") == 1
        assert hers.drain() == []


def test_that_a_repost_is_gone_is_not_told_once_its_reposter_is_hidden(
    stack: Stack, alice: Person, bob: Person, seen: int, person: Callable[[], Person]
) -> None:
    carol = person()
    post = carol.post_photo()
    alice.put(f"/v1/posts/{post['id']}/repost")
    wait_until(lambda: heard(bob, seen, "feed.post_created"))
    alice.delete(f"/v1/posts/{post['id']}/repost")
    wait_until(lambda: heard(bob, seen, "feed.post_deleted"))
    alice.put(f"/v1/users/{bob.username}/block")
    assert [event["event"] for event in replayed(bob, seen)] == ["resync"]


def test_nor_is_what_was_read_before_a_change_and_told_after_it(bob: Person, seen: int) -> None:
    bob_id, subject = id_of(bob), ids.new_id()

    def tell(event: Told) -> None:
        """What it tells is read, the changes come, and then it is told, later than it meant to."""
        for change in event.changes:
            cache.run_sync(publish.changed(subject, change))
        cache.run_sync(("CLIENT", "PAUSE", 50))
        publish.deliver([bob_id], "message.created", b"{}", rests={subject: event.known})

    def told(*changes: int, known: int | None = None) -> list[str]:
        with bob.live() as phone:
            last = phone.act("resume", {"after": seen})["data"]["seq"]
        data = base64.b64encode(events.encode(Told(list(changes), known))).decode()
        events.handle(
            events.Reaction("tell", tell, (Told,), 1, in_thread=False),
            {"attributes": {"type": Told.topic}, "data": data},
        )
        return [name for event in replayed(bob, last) if (name := event["event"]) != "notification.created"]

    assert told() == ["message.created"]
    assert told(1) == ["resync"]
    # A change that is told again, as its event comes again, is the one before: what was read since has it.
    wait_until(lambda: told(1) == ["message.created"])
    assert told(1, 2) == ["resync"]
    # Nor does the change outdate what tells of it.
    assert told(3, known=3) == ["message.created"]


def test_an_event_of_an_earlier_release_is_read_anew(bob: Person, seen: int) -> None:
    publish.deliver([id_of(bob)], "message.created", b"{}")
    assert heard(bob, seen, "message.created")
    inbox = f"inbox:{ids.encode(id_of(bob))}"
    ((entry, fields),) = cache.run_sync(("XREVRANGE", inbox, "+", "-", "COUNT", 1))[0]
    number = int(entry.partition(b"-")[0]) + 1
    cache.run_sync(("XADD", inbox, f"{number}-0", *fields[:4]))
    assert heard(bob, seen, "resync")


@pytest.mark.parametrize("how", ["block", "edit", "delete"])
def test_nor_is_a_post(alice: Person, bob: Person, seen: int, how: str) -> None:
    post = alice.post_photo(f"Regretted words for @{bob.username}")
    wait_until(lambda: heard(bob, seen, "feed.post_created", "notification.created"))
    match how:
        case "block":
            alice.put(f"/v1/users/{bob.username}/block")
        case "edit":
            alice.patch(f"/v1/posts/{post['id']}", {"description": "Better words"})
        case _:
            alice.delete(f"/v1/posts/{post['id']}")
    wait_until(lambda: heard(bob, seen, "resync") and "Regretted" not in str(replayed(bob, seen)))


def test_what_else_happens_outdates_nothing(
    stack: Stack, alice: Person, bob: Person, seen: int, person: Callable[[], Person]
) -> None:
    carol = person()
    said = write(alice, bob, "Good words")
    gone = write(carol, alice, "Not for bob")
    wait_until(lambda: heard(bob, seen, "message.created"))
    carol.ask("DELETE", f"/v1/messages/{gone['id']}?for=everyone").raise_for_status()
    carol.put(f"/v1/users/{bob.username}/block")
    alice.put(f"/v1/users/{carol.username}/block")
    # Of alice no more than when she is here.
    alice.delete(f"/v1/users/{bob.username}/follow")
    alice.patch("/v1/me", {"settings": {"presence": False}})
    wait_until_heard(stack)
    [told] = [event for event in replayed(bob, seen) if event["event"] == "message.created"]
    assert told["data"]["id"] == said["id"]


def test_what_was_reacted_to_is_told_still_and_what_comes_after_a_change_too(
    alice: Person, bob: Person, seen: int
) -> None:
    said = write(alice, bob, "Good words")
    bob.put(f"/v1/messages/{said['id']}/reaction", {"emoji": "👍"})
    wait_until(lambda: heard(bob, seen, "message.created", "message.reacted"))
    with bob.live() as phone:
        edit(alice, bob, said)
        wait_until(lambda: heard(bob, seen, "resync"))
        write(alice, bob, "And more")
        since = phone.event("message.edited")["seq"]
        assert phone.event("message.created")["data"]["content"]["text"] == "And more"
    assert [event["event"] for event in replayed(bob, since)] == ["message.created"]


def test_urls_that_will_end_soon_are_not_told_again(alice: Person, bob: Person, seen: int) -> None:
    bob_id = id_of(bob)
    write(alice, bob, upload_photo(alice))
    wait_until(lambda: heard(bob, seen, "message.created"))
    (entries,) = cache.run_sync(("XREVRANGE", f"inbox:{ids.encode(bob_id)}", "+", "-", "COUNT", 1))
    assert int(entries[0][1][5]) == 3600
    publish.deliver([bob_id], "message.created", b"{}", good_for=0)
    assert heard(bob, seen, "resync")


def test_nor_what_is_hidden_while_it_is_being_sent(stack: Stack, bob: Person, seen: int) -> None:
    subject, words = ids.new_id(), msgspec.json.encode("Regretted words" + "." * 18_000)
    for _ in range(900):
        publish.deliver([id_of(bob)], "message.created", words, rests={subject: None})
    with connect(stack.live, subprotocols=JSON, additional_headers=bearer(bob), proxy=None, max_queue=1) as slow:
        slow.send(json.dumps({"id": 1, "action": "resume", "data": {"after": seen}}))
        told = [json.loads(slow.recv(10)) for _ in range(100)]
        cache.run_sync(publish.changed(subject, 1))
        while "reply_to" not in told[-1]:
            told.append(json.loads(slow.recv(10)))
    assert told[-1]["data"]["resync"] is True
    # What was on its way by then, up to 10 MB that the kernel keeps, can't be called back; of the rest nothing comes.
    assert len([one for one in told if one.get("event") == "message.created"]) < 800
