"""Who comes back is not told what has been hidden from them since, nor what is no longer said: they read anew."""

from collections.abc import Callable
from typing import Any

import pytest

from infra.local.stack import Stack
from shared.kernel import cache, ids
from shared.live import publish
from tests.chat.talk import friends, upload_photo, write
from tests.client import PASSWORD, Person, wait_until
from tests.feed.merging import id_of
from tests.heard import wait_until_heard


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


@pytest.mark.parametrize("change", [block, block_back, leave, take_back, edit])
def test_a_message_is_not_told_once_it_is_hidden_or_changed(
    alice: Person, bob: Person, seen: int, change: Callable[[Person, Person, dict[str, Any]], None]
) -> None:
    said = write(alice, bob, "Regretted words")
    wait_until(lambda: heard(bob, seen, "message.created"))
    change(alice, bob, said)
    # And no more than that: who blocks is told to read anew besides.
    wait_until(lambda: [event["event"] for event in replayed(bob, seen)] == ["resync"])


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
    edit(alice, bob, said)
    with bob.live() as phone:
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
