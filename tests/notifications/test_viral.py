"""What goes viral is one row, told live once a second at most; how it ended is told, whatever dies meanwhile."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from infra.local.stack import Stack, ephemeral
from shared.kernel import ids
from shared.notifications import actions
from shared.notifications.model import Act
from shared.profiles import reads as profiles
from tests.client import Live, Person, processes, sign_up, wait_until
from tests.profiles.people import insert_users
from tests.servers import using

ACTS = 300


def react(owner: int, post: str, actor: int) -> None:
    actions.apply([Act(owner, "reaction", f"post:{post}", actor, ids.new_id(), 1)])


def heard(live: Live) -> list[dict[str, Any]]:
    """What has come so far, or comes within a moment."""
    try:
        live.receive(0.1)
    except TimeoutError:
        pass
    return [event for event in live.events if event["event"] == "notification.created"]


def ends_as_read(live: Live, owner: Person, count: int) -> list[dict[str, Any]]:
    """The events, once the last tells of so many; it is what a read shows."""
    wait_until(lambda: [event for event in heard(live) if event["data"]["actor_count"] == count], 60)
    live.drain()
    events = heard(live)
    assert [events[-1]["data"]] == owner.get("/v1/notifications")["items"]
    return events


def test_three_hundred_at_once_are_one_row_told_once_a_second(alice: Person) -> None:
    owner = profiles.named([alice.username])[alice.username]
    crowd, post = insert_users(ACTS), alice.post_photo()["id"]
    with alice.live() as live, ThreadPoolExecutor(8) as threads:
        began = time.monotonic()
        list(threads.map(lambda actor: react(owner, post, actor), crowd))
        events = ends_as_read(live, alice, ACTS)
        # One a second from when each was begun: from there to when it comes is not always the same.
        assert 2 <= len(events) <= time.monotonic() - began + 2
        assert alice.get("/v1/me")["unread"]["notifications"] == 1

        # And once more when it was quiet, at once.
        time.sleep(1.0)
        (last,) = insert_users(1)
        began = time.monotonic()
        react(owner, post, last)
        ends_as_read(live, alice, ACTS + 1)
        assert time.monotonic() - began < 1.0


@pytest.fixture(scope="module")
def doomed() -> Iterator[Stack]:
    """A stack of its own: others' tests don't stand on what is killed here."""
    with ephemeral() as stack:
        yield stack


@pytest.mark.slow
@pytest.mark.parametrize("victims", [("background",), ("relay",), ("background", "relay", "pubsub")])
def test_how_it_ended_is_told_whatever_is_killed(doomed: Stack, victims: tuple[str, ...]) -> None:
    alice = sign_up(doomed)
    post = alice.post_photo()["id"]
    with using(doomed.env), alice.live() as live, ThreadPoolExecutor(8) as threads:
        owner = profiles.named([alice.username])[alice.username]
        crowd = insert_users(ACTS)
        under_way = [threads.submit(react, owner, post, actor) for actor in crowd]
        wait_until(lambda: heard(live))
        for process in [process for victim in victims for process in processes(doomed, victim)]:
            process.kill()
        for act in under_way:
            act.result(60)
        ends_as_read(live, alice, ACTS)
