"""Hiding presence by the setting: both ways, at once, and what those hear who watch."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from infra.local.stack import Stack
from shared.kernel import cache
from tests.chat.talk import write
from tests.client import Person, wait_until
from tests.heard import wait_until_heard
from tests.live.instances import instance
from tests.live.watching import HIDDEN, ONLINE, comes, heard, is_refused, presence_of, subscribe, subscriptions


@pytest.mark.parametrize("who", ["owner", "viewer"])
def test_who_hides_it_is_not_seen_and_sees_nobody(alice: Person, fan: Person, who: str) -> None:
    hides = alice if who == "owner" else fan
    with alice.live() as own, fan.live() as live, fan.live() as other:
        for one in (own, live):
            subscribe(one, alice)
        assert hides.patch("/v1/me", {"settings": {"presence": False}})["settings"]["presence"] is False
        assert hides.get("/v1/me")["settings"]["presence"] is False
        assert presence_of(fan, alice) is None
        assert comes(live, alice, "online", "offline")[1] == {"username": alice.username, **HIDDEN}
        # Who subscribes only now is told the same, and hears of it when it shows again.
        subscribe(other, alice)
        assert heard(other, alice) == [{"username": alice.username, **HIDDEN}]
        # Another change leaves it as it is.
        assert hides.patch("/v1/me", {"bio": "Gone fishing", "settings": {}})["settings"]["presence"] is False
        hides.patch("/v1/me", {"settings": {"presence": True}})
        assert presence_of(fan, alice) == ONLINE
        assert comes(live, alice, "online", "offline", "online")[2] == {"username": alice.username, **ONLINE}
        assert comes(other, alice, "offline", "online")[1] == {"username": alice.username, **ONLINE}
        # Of oneself one sees it always.
        assert heard(own, alice) == [{"username": alice.username, **ONLINE}]
        assert subscriptions(own) == [f"presence:{alice.username}"]


def hide(person: Person, *, hides: bool = True) -> None:
    person.patch("/v1/me", {"settings": {"presence": not hides}})


def test_hidden_from_one_who_hides_theirs_it_is_told_to_the_others(
    stack: Stack, alice: Person, fan: Person, person: Callable[[], Person]
) -> None:
    other = person()
    alice.follow(other.username)
    with instance(stack) as second, fan.live() as phone, fan.live(second.url) as laptop, other.live() as listening:
        for live in (phone, laptop, listening):
            subscribe(live, alice)
        hide(fan)
        for live in (phone, laptop):
            comes(live, alice, "offline", "offline")
        with alice.live():
            comes(listening, alice, "offline", "online")
        gone = comes(listening, alice, "offline", "online", "offline")[2]
        for live in (phone, laptop):
            assert heard(live, alice) == [{"username": alice.username, **HIDDEN}] * 2
        hide(fan, hides=False)
        for live in (phone, laptop):
            assert comes(live, alice, "offline", "offline", "offline")[2] == gone
        assert len(heard(listening, alice)) == 3
        # And from then on they hear of her again.
        with alice.live():
            for live in (phone, laptop):
                comes(live, alice, "offline", "offline", "offline", "online")


@pytest.mark.parametrize("who", ["owner", "viewer"])
def test_subscribed_to_while_it_is_hidden_it_tells_nothing_until_it_shows(
    stack: Stack, alice: Person, bob: Person, person: Callable[[], Person], who: str
) -> None:
    write(alice, bob, "Hello?")
    other = person()
    alice.follow(other.username)
    hides = alice if who == "owner" else bob
    hide(hides)
    with instance(stack) as second, bob.live() as phone, bob.live(second.url) as laptop, other.live() as listening:
        for live in (phone, laptop, listening):
            subscribe(live, alice)
        with alice.live() as own:
            if who == "viewer":
                comes(listening, alice, "offline", "online")
            subscribe(own, alice)
            assert heard(own, alice) == [{"username": alice.username, **ONLINE}]
            # Here as she is, those are told nothing of it, also who subscribes now.
            with bob.live(second.url) as tablet:
                subscribe(tablet, alice)
                for live in (phone, laptop, tablet):
                    assert heard(live, alice) == [{"username": alice.username, **HIDDEN}]
                hide(hides, hides=False)
                for live in (phone, laptop, tablet, listening):
                    comes(live, alice, "offline", "online")
            hide(hides)
            for live in (phone, laptop):
                comes(live, alice, "offline", "online", "offline")


@pytest.mark.parametrize("who", ["owner", "viewer"])
def test_who_may_not_see_it_is_refused_whoever_hides_it(
    alice: Person, fan: Person, bob: Person, person: Callable[[], Person], who: str
) -> None:
    bob.follow(alice.username)
    stranger = person()
    write(stranger, alice, "Hello?")
    for one in [alice] if who == "owner" else [fan, bob, stranger]:
        hide(one)
    with fan.live() as live:
        subscribe(live, alice)
        for one in (bob, stranger):
            with one.live() as theirs:
                assert is_refused(theirs, alice)
        alice.put(f"/v1/users/{fan.username}/block")
        wait_until(lambda: subscriptions(live) == [])
        assert is_refused(live, alice)
        assert heard(live, alice) == [{"username": alice.username, **HIDDEN}]


def test_shown_or_hidden_while_one_subscribes_it_ends_as_it_is(stack: Stack, alice: Person, fan: Person) -> None:
    with alice.live(), ThreadPoolExecutor(1) as threads, ExitStack() as opened:
        for hides in (True, False, True, False):
            lives = [opened.enter_context(fan.live()) for _ in range(4)]
            changed = threads.submit(hide, alice, hides=hides)
            for live in lives:
                subscribe(live, alice)
            changed.result()
            wait_until_heard(stack)
            for live in lives:
                wait_until(lambda live=live, hides=hides: (
                    heard(live, alice)[-1]["presence"] == ("offline" if hides else "online")
                ))  # fmt: skip


def test_who_may_see_it_no_more_is_not_told_when_it_shows_again(alice: Person, fan: Person) -> None:
    with alice.live(), fan.live() as live:
        subscribe(live, alice)
        hide(alice)
        comes(live, alice, "online", "offline")
        alice.delete(f"/v1/users/{fan.username}/follow")
        wait_until(lambda: subscriptions(live) == [])
        hide(alice, hides=False)
        assert is_refused(live, alice)
        assert len(heard(live, alice)) == 2


def test_hiding_it_from_whose_chat_is_accepted(alice: Person, bob: Person) -> None:
    write(alice, bob, "Hello?")
    with alice.live(), bob.live() as live:
        subscribe(live, alice)
        hide(alice)
        comes(live, alice, "online", "offline")
        hide(alice, hides=False)
        comes(live, alice, "online", "offline", "online")


@pytest.mark.parametrize("hides", [True, False])
def test_of_many_changes_in_a_row_the_last_is_what_shows(
    stack: Stack, alice: Person, fan: Person, *, hides: bool
) -> None:
    shown = "offline" if hides else "online"
    with alice.live(), fan.live() as live:
        subscribe(live, alice)
        for number in range(4):
            hide(alice, hides=not hides)
            if number == 2:
                cache.run_sync(("CLIENT", "KILL", "TYPE", "PUBSUB"))
            hide(alice, hides=hides)
        wait_until_heard(stack)
        wait_until(lambda: heard(live, alice)[-1]["presence"] == shown)
        seen = len(heard(live, alice))
        hide(fan, hides=False)  # which changes nothing
        wait_until_heard(stack)
        assert all(one["presence"] == shown for one in heard(live, alice)[seen:])
        hide(alice, hides=not hides)
        wait_until(lambda: heard(live, alice)[-1]["presence"] != shown)


@pytest.mark.parametrize("settings", [None, {"presence": None}, {"presence": "no"}, {"reaction": False}])
def test_what_is_wrong_with_the_setting_is_named(alice: Person, problem: Any, settings: Any) -> None:
    found = problem(alice.ask("PATCH", "/v1/me", {"settings": settings}), 422, "invalid")["errors"]
    assert [error["field"].partition(".")[0] for error in found] == ["settings"]
    assert alice.get("/v1/me")["settings"]["presence"] is True
