"""Presence: who is here, seen by whom they follow or chat with, on any instance, and what ends or hides it."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from infra.local.stack import Stack
from shared.kernel import cache
from shared.presence.reads import key
from tests.chat.talk import write
from tests.client import Format, Person, sign_up, wait_until
from tests.feed.merging import id_of
from tests.live.instances import instance
from tests.live.watching import (
    HIDDEN,
    ONLINE,
    away_seconds,
    comes,
    heard,
    is_refused,
    presence_of,
    subscribe,
    subscriptions,
)


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_somebody_comes_stays_and_goes(stack: Stack, alice: Person, format: Format) -> None:
    fan = sign_up(stack, format=format)
    alice.follow(fan.username)
    assert presence_of(fan, alice) == {"presence": "offline", "last_seen": None}
    with fan.live() as live:
        subscribe(live, alice)
        assert [one["presence"] for one in heard(live, alice)] == ["offline"]
        with alice.live():
            assert comes(live, alice, "offline", "online")[1] == {"username": alice.username, **ONLINE}
            assert presence_of(fan, alice) == ONLINE
            # Said again and again, it is told once; and it lapses for nobody who is here.
            until = time.monotonic() + 1.5 * away_seconds()
            while time.monotonic() < until:
                assert presence_of(fan, alice) == ONLINE
            assert len(heard(live, alice)) == 2
        left = time.time() * 1000
        gone = comes(live, alice, "offline", "online", "offline")[2]
        assert time.time() * 1000 - left > 0.9 * away_seconds() * 1000
        assert abs(gone["last_seen"] - left) < 1000
        assert presence_of(fan, alice) == {"presence": "offline", "last_seen": gone["last_seen"]}


def test_coming_back_soon_is_not_told(alice: Person, fan: Person) -> None:
    with fan.live() as live:
        with alice.live():
            subscribe(live, alice)
        with alice.live():
            time.sleep(1.2 * away_seconds())
            assert [one["presence"] for one in heard(live, alice)] == ["online"]


def test_online_while_any_device_on_any_instance_is(stack: Stack, alice: Person, fan: Person) -> None:
    with instance(stack) as second, fan.live() as here, fan.live(second.url) as there:
        for live in (here, there):
            subscribe(live, alice)
        with alice.live(second.url):
            with alice.live(), alice.live():
                for live in (here, there):
                    comes(live, alice, "offline", "online")
            time.sleep(1.3 * away_seconds())
            for live in (here, there):
                comes(live, alice, "offline", "online")
        both = [comes(live, alice, "offline", "online", "offline") for live in (here, there)]
        assert both[0] == both[1]


def test_an_instance_that_is_killed_takes_its_users_with_it(stack: Stack, alice: Person, fan: Person) -> None:
    with instance(stack) as second, fan.live() as live:
        subscribe(live, alice)
        with alice.live(second.url):
            comes(live, alice, "offline", "online")
            killed = time.time() * 1000
            os.kill(second.process.pid, signal.SIGKILL)
            last_seen = comes(live, alice, "offline", "online", "offline")[2]["last_seen"]
        assert killed - 1000 * away_seconds() < last_seen <= killed
        assert presence_of(fan, alice) == {"presence": "offline", "last_seen": last_seen}


def test_who_follows_is_not_seen_by_whom_they_are_not_followed(alice: Person, bob: Person) -> None:
    bob.follow(alice.username)
    with alice.live(), bob.live() as live:
        assert presence_of(bob, alice) is None
        assert is_refused(live, alice)
        # And alice sees bob, who follows her.
        assert presence_of(alice, bob) == ONLINE


def test_who_subscribes_again_is_told_again_how_it_is(alice: Person, fan: Person) -> None:
    with fan.live() as live:
        subscribe(live, alice)
        with alice.live():
            comes(live, alice, "offline", "online")
            subscribe(live, alice)
            assert comes(live, alice, "offline", "online", "online")[2] == {"username": alice.username, **ONLINE}
            fan.patch("/v1/me", {"settings": {"presence": False}})
            comes(live, alice, "offline", "online", "online", "offline")
            subscribe(live, alice)
            found = comes(live, alice, "offline", "online", "online", "offline", "offline")
            assert found[3:] == [{"username": alice.username, **HIDDEN}] * 2


def test_a_visitor_sees_nobody_and_everybody_themselves(alice: Person, visitor: Any) -> None:
    with alice.live() as live:
        assert "presence" not in visitor.get(f"/v1/users/{alice.username}")
        assert presence_of(alice, alice) == ONLINE
        subscribe(live, alice)
        assert heard(live, alice) == [{"username": alice.username, **ONLINE}]


def test_a_request_tells_nobody_that_one_is_here_until_it_is_accepted(alice: Person, bob: Person) -> None:
    write(bob, alice, "Hello?")
    with alice.live(), bob.live() as live:
        assert presence_of(bob, alice) is None
        assert is_refused(live, alice)
        assert presence_of(alice, bob) == ONLINE
        alice.put(f"/v1/chats/{bob.username}/accept")
        assert presence_of(bob, alice) == ONLINE
        subscribe(live, alice)
        alice.put(f"/v1/chats/{bob.username}/decline")
        assert presence_of(bob, alice) is None
        wait_until(lambda: subscriptions(live) == [])
        assert is_refused(live, alice)


@pytest.mark.parametrize("how", ["blocks", "blocked", "unfollowed"])
def test_what_ends_seeing_them_ends_hearing_of_them(
    alice: Person, fan: Person, person: Callable[[], Person], how: str
) -> None:
    other = person()
    alice.follow(other.username)
    with fan.live() as live, other.live() as listening:
        for one in (live, listening):
            subscribe(one, alice)
        if how == "blocks":
            fan.put(f"/v1/users/{alice.username}/block")
        elif how == "blocked":
            alice.put(f"/v1/users/{fan.username}/block")
        else:
            alice.delete(f"/v1/users/{fan.username}/follow")
        wait_until(lambda: subscriptions(live) == [])
        assert is_refused(live, alice)
        if how == "unfollowed":
            assert presence_of(fan, alice) is None
        with alice.live():
            comes(listening, alice, "offline", "online")
            assert [one["presence"] for one in heard(live, alice)] == ["offline"]


def test_a_deleted_account_is_no_longer_seen(alice: Person, fan: Person) -> None:
    with fan.live() as live:
        subscribe(live, alice)
        assert alice.ask("DELETE", "/v1/me", {"password": "correct horse battery staple"}).status_code == 204
        wait_until(lambda: subscriptions(live) == [])
        assert is_refused(live, alice)


def test_nobody_is_taken_for_here_by_a_session_that_has_ended(alice: Person, fan: Person) -> None:
    alice.post("/v1/logout")
    with pytest.raises(Exception), alice.live(ticket=False):  # noqa: B017, PT011 - closed, whenever that is seen
        pass
    assert presence_of(fan, alice) == {"presence": "offline", "last_seen": None}


def test_presence_that_redis_lost_is_there_again_and_nobody_flickers(alice: Person, fan: Person) -> None:
    with alice.live(), fan.live() as live:
        subscribe(live, alice)
        cache.run_sync(("DEL", key(id_of(alice))), ("CLIENT", "KILL", "TYPE", "PUBSUB"))
        wait_until(lambda: presence_of(fan, alice) == ONLINE)
        time.sleep(1.2 * away_seconds())
        assert {one["presence"] for one in heard(live, alice)} == {"online"}


def test_names_are_those_of_people(alice: Person, fan: Person) -> None:
    with fan.live() as live:
        wrong = live.act("subscribe", {"topics": ["presence:", "presence:no spaces", f"presence:{alice.username}"]})
        assert [(one["field"], one["code"]) for one in wrong["error"]["errors"]] == [
            ("topics[0]", "unknown_topic"),
            ("topics[1]", "unknown_topic"),
        ]
        shouted = live.act("subscribe", {"topics": [f"presence:{alice.username.upper()}"]})
        assert shouted["data"] == {"topics": [f"presence:{alice.username}"]}
        assert live.act("unsubscribe", {"topics": [f"presence:{alice.username}"]})["data"] == {"topics": []}
