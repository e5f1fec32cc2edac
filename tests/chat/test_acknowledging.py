"""Watermarks: what was delivered and read, never going back; and what is unread."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.chat.talk import acknowledge, chats, friends, history, write
from tests.client import Person

Problem = Callable[[httpx.Response, int, str], dict[str, Any]]


@pytest.fixture(autouse=True)
def _friends(alice: Person, bob: Person) -> None:
    friends(alice, bob)


def statuses(person: Person, other: Person) -> list[str]:
    """Oldest first."""
    return [one["status"] for one in reversed(history(person, other))]


def unread(person: Person) -> int:
    return chats(person)[0]["unread_count"]


def test_they_never_go_back(alice: Person, bob: Person) -> None:
    said = [write(alice, bob, str(number)) for number in range(4)]
    acknowledge(bob, alice, read_up_to=said[1], delivered_up_to=said[2])
    assert statuses(alice, bob) == ["read", "read", "delivered", "sent"]
    times = [(one["delivered_at"], one["read_at"]) for one in history(alice, bob)]
    acknowledge(bob, alice, read_up_to=said[0])
    acknowledge(bob, alice, delivered_up_to=said[0])
    acknowledge(bob, alice, read_up_to=said[1])
    assert statuses(alice, bob) == statuses(bob, alice) == ["read", "read", "delivered", "sent"]
    assert [(one["delivered_at"], one["read_at"]) for one in history(alice, bob)] == times
    assert unread(bob) == 2
    acknowledge(bob, alice, read_up_to=said[3])
    assert statuses(alice, bob) == ["read"] * 4
    assert unread(bob) == 0


def test_many_devices_at_once(alice: Person, bob: Person) -> None:
    said = [write(alice, bob, str(number)) for number in range(12)]
    dice = random.Random(5)
    acts = [(name, one) for name in ("delivered_up_to", "read_up_to") for one in said[:10]] * 2
    dice.shuffle(acts)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda act: acknowledge(bob, alice, **{act[0]: act[1]}), acts))
    assert statuses(alice, bob) == ["read"] * 10 + ["sent"] * 2
    assert unread(bob) == 2


def test_acknowledging_while_more_comes_loses_nothing(alice: Person, bob: Person) -> None:
    with ThreadPoolExecutor(8) as threads:
        for _ in range(8):
            last = write(alice, bob, "Read this")
            more = [threads.submit(write, alice, bob, "And this") for _ in range(3)]
            acknowledge(bob, alice, read_up_to=last)
            newer = [one.result() for one in more]
            assert unread(bob) == len(newer)
            acknowledge(bob, alice, read_up_to=max(newer, key=lambda one: one["id"]))
            assert unread(bob) == 0


def test_ones_own_messages_are_not_unread(alice: Person, bob: Person) -> None:
    mine = write(bob, alice, "Mine")
    theirs = write(alice, bob, "Theirs")
    write(bob, alice, "Mine again")
    assert unread(bob) == 1
    # Naming one of one's own says that all before it was seen.
    acknowledge(bob, alice, read_up_to=mine)
    assert unread(bob) == 1
    acknowledge(bob, alice, read_up_to=theirs)
    assert [one["status"] for one in history(alice, bob)] == ["sent", "read", "sent"]
    assert unread(bob) == 0


def test_what_is_not_in_the_chat_is_named(
    alice: Person, bob: Person, person: Callable[[], Person], problem: Problem
) -> None:
    path = f"/v1/chats/{alice.username}/ack"
    elsewhere = write(alice, person(), "Elsewhere")["id"]

    def told(body: dict[str, Any]) -> dict[str, str]:
        found = problem(bob.ask("PUT", path, body), 422, "invalid")
        return {fault["field"]: fault["code"] for fault in found["errors"]}

    assert told({"read_up_to": elsewhere}) == {"read_up_to": "not_found"}  # there is no chat yet
    here = write(alice, bob, "Here")["id"]
    for foreign in (elsewhere, "7zzzzzzzzzzzz", "no id", "0" * 13):
        assert told({"read_up_to": foreign, "delivered_up_to": here}) == {"read_up_to": "not_found"}
        assert told({"delivered_up_to": foreign, "read_up_to": foreign}).keys() == {"read_up_to", "delivered_up_to"}
    assert told({}) == {"read_up_to": "missing"}
    assert told({"read_up_to": 7, "x": 1}) == {"read_up_to": "wrong_type", "x": "unknown_field"}
    assert statuses(alice, bob) == ["sent"]
    assert unread(bob) == 1


def test_what_was_deleted_or_cleared_is_not_unread(alice: Person, bob: Person) -> None:
    first, second, third = (write(alice, bob, word) for word in ("One", "Two", "Three"))
    assert (unread(bob), bob.get("/v1/me")["unread"]["chats"]) == (3, 1)
    alice.delete(f"/v1/messages/{first['id']}?for=everyone")
    assert unread(bob) == 2
    bob.delete(f"/v1/messages/{second['id']}")
    assert unread(bob) == 1
    bob.delete(f"/v1/chats/{alice.username}")
    assert (chats(bob), bob.get("/v1/me")["unread"]["chats"]) == ([], 0)
    assert statuses(alice, bob) == ["sent"] * 3
    write(alice, bob, "Four")
    assert unread(bob) == 1
    acknowledge(bob, alice, read_up_to=third)
    assert unread(bob) == 1
    assert statuses(alice, bob) == ["read", "read", "read", "sent"]
