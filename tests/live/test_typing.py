"""Typing: heard by the other of two who chat, throttled, and ended by itself."""

import time
from typing import Any

import pytest

from infra.local.stack import Stack
from tests.chat.talk import write
from tests.client import Live, Person
from tests.live.instances import instance


@pytest.fixture
def chatting(alice: Person, bob: Person) -> None:
    """Alice and bob have written to each other."""
    write(alice, bob, "Hello")
    write(bob, alice, "Hello")


def types(live: Live, to: Person, *, on: bool = True) -> dict[str, Any]:
    return live.act("typing", {"to": to.username, "on": on})


def heard(live: Live) -> list[dict[str, Any]]:
    live.drain()
    return came(live)


def comes(live: Live, *wanted: dict[str, Any]) -> None:
    """Just these come, in order."""
    until = time.monotonic() + 15
    while len(came(live)) < len(wanted):
        live.receive(until - time.monotonic())
    assert heard(live) == list(wanted)


def came(live: Live) -> list[dict[str, Any]]:
    found = [event for event in live.events if event["event"] == "typing"]
    assert all("seq" not in event for event in found)
    return [event["data"] for event in found]


def of(person: Person, *, on: bool) -> dict[str, Any]:
    return {"from": person.username, "on": on}


@pytest.mark.usefixtures("chatting")
def test_all_devices_of_the_other_hear_it_begin_and_end(stack: Stack, alice: Person, bob: Person) -> None:
    with instance(stack) as second, bob.live() as here, bob.speaking("msgpack").live(second.url) as there:
        with alice.live() as live, alice.live() as own:
            assert types(live, bob)["data"] == {}
            for one in (here, there):
                comes(one, of(alice, on=True))
            assert types(live, bob, on=False)["ok"]
            for one in (here, there):
                comes(one, of(alice, on=True), of(alice, on=False))
            # Ended, it isn't ended again.
            assert types(live, bob, on=False)["ok"]
            assert heard(own) == heard(live) == []
        assert len(heard(here)) == len(heard(there)) == 2
    with bob.live() as live:
        # It is kept for nobody.
        live.act("resume", {"after": 0})
        assert heard(live) == []


@pytest.mark.usefixtures("chatting")
def test_it_is_told_once_in_three_seconds_and_ends_six_after_the_last(alice: Person, bob: Person) -> None:
    with bob.live() as listening, alice.live() as live:
        began = time.monotonic()
        while time.monotonic() < began + 4:
            assert types(live, bob)["ok"]
            time.sleep(0.2)
        assert heard(listening) == [of(alice, on=True)] * 2
        comes(listening, of(alice, on=True), of(alice, on=True), of(alice, on=False))
        assert 8 < time.monotonic() - began < 11
        assert types(live, bob, on=False)["ok"]
        assert len(heard(listening)) == 3


@pytest.mark.usefixtures("chatting")
def test_it_ends_when_the_instance_of_who_types_is_killed(stack: Stack, alice: Person, bob: Person) -> None:
    with bob.live() as listening:
        with instance(stack) as second, alice.live(second.url) as live:
            assert types(live, bob)["ok"]
            second.process.kill()
        comes(listening, of(alice, on=True), of(alice, on=False))


def test_a_request_is_not_told_of_nor_that_it_is_answered(alice: Person, bob: Person) -> None:
    write(bob, alice, "Hello?")
    with alice.live() as hers, bob.live() as his:
        assert types(his, alice)["data"] == {}
        assert types(hers, bob)["data"] == {}
        assert heard(hers) == heard(his) == []
        alice.put(f"/v1/chats/{bob.username}/accept")
        assert types(his, alice)["ok"]
        assert types(hers, bob)["ok"]
        comes(hers, of(bob, on=True))
        comes(his, of(alice, on=True))


def test_two_who_follow_each_other_need_not_have_written(alice: Person, bob: Person) -> None:
    alice.follow(bob.username)
    with alice.live() as hers, bob.live() as his:
        assert types(hers, bob)["ok"]
        assert heard(his) == []
        bob.follow(alice.username)
        assert types(hers, bob)["ok"]
        comes(his, of(alice, on=True))


@pytest.mark.usefixtures("chatting")
@pytest.mark.parametrize("who", ["alice", "bob"])
def test_who_hides_when_they_are_here_is_not_told_of(alice: Person, bob: Person, who: str) -> None:
    {"alice": alice, "bob": bob}[who].patch("/v1/me", {"settings": {"presence": False}})
    with alice.live() as hers, bob.live() as his:
        assert types(hers, bob)["data"] == types(his, alice)["data"] == {}
        assert heard(hers) == heard(his) == []


@pytest.mark.usefixtures("chatting")
@pytest.mark.parametrize("who", ["alice", "bob"])
def test_a_block_hides_it_as_if_nobody_was_there(alice: Person, bob: Person, who: str) -> None:
    blocker, other = (alice, bob) if who == "alice" else (bob, alice)
    blocker.put(f"/v1/users/{other.username}/block")
    with alice.live() as hers, bob.live() as his:
        nobody = hers.act("typing", {"to": "nobody_at_all", "on": True})["error"]
        for on in (True, False):
            refused = types(hers, bob, on=on)["error"]
            assert refused | {"instance": ""} == nobody | {"instance": ""}
        assert (nobody["status"], nobody["code"]) == (404, "user_not_found")
        assert heard(his) == []


def test_what_is_wrong_with_it_is_named(alice: Person, bob: Person) -> None:
    def faults(data: dict[str, Any]) -> list[tuple[str, str]]:
        return [(one["field"], one["code"]) for one in live.act("typing", data)["error"]["errors"]]

    with alice.live() as live:
        assert faults({}) == [("to", "missing"), ("on", "missing")]
        assert faults({"to": 1, "on": "yes", "more": 1}) == [
            ("to", "wrong_type"),
            ("on", "wrong_type"),
            ("more", "unknown_field"),
        ]
        assert faults({"to": alice.username, "on": True}) == [("to", "yourself")]
        assert live.act("typing", {"to": "no such name", "on": True})["error"]["code"] == "user_not_found"
