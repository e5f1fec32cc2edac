"""Whatever drops when, who comes back with `resume` has seen each personal event once, in order."""

import threading
import time
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.local.stack import Stack
from shared.live import publish
from tests.chat.talk import friends, history, write
from tests.client import sign_up
from tests.feed.merging import id_of
from tests.heard import wait_until_heard
from tests.live.devices import Device, bad_day, kept_for
from tests.live.instances import instance

# Passes within seconds; a failure is shrunk for up to five minutes, and some come only now and then.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

Name = Literal["phone", "laptop"]
# Each is one event to alice, or none: a follow that is taken back before it is told, say.
CAUSES = ("message", "comment", "reaction", "follow", "post", "deletion", "burst")
BURST = 30


class Drop(NamedTuple):
    """It reads so many bytes more, and resets the connection."""

    device: Name
    after: int


class Close(NamedTuple):
    """It ends the connection as one should."""

    device: Name


class Come(NamedTuple):
    """It drops if it is here, and comes to an instance; with a `resume` so many events older than it needs."""

    device: Name
    instance: int
    back: int


DEVICES = st.sampled_from(["phone", "laptop"])
MOVES = st.one_of(
    st.builds(Drop, DEVICES, st.integers(0, 4000)),
    st.builds(Close, DEVICES),
    st.builds(Come, DEVICES, st.integers(0, 1), st.integers(0, 3)),
)
# As many causes as moves.
STEPS = st.lists(st.one_of(st.sampled_from(CAUSES), MOVES), min_size=6, max_size=18)


class World:
    """Alice's two devices, on two instances, and all that bob does to her."""

    def __init__(self, stack: Stack, urls: tuple[str, str]) -> None:
        self.stack = stack
        self.alice, self.bob = sign_up(stack), sign_up(stack)
        friends(self.alice, self.bob)
        self.post: str = self.alice.post_photo("Here I am")["id"]
        self.reactions = self.follows = 0
        self.posts: list[str] = []
        self.settled: list[str] = []
        self.urls = urls
        self.bursts: list[threading.Thread] = []

    def do(self, cause: str) -> None:
        bob = self.bob
        match cause:
            case "message":
                write(bob, self.alice, "Hello")
            case "comment":
                bob.post(f"/v1/posts/{self.post}/comments", {"text": "Nice"})
            case "reaction":
                self.reactions += 1
                bob.ask("PUT" if self.reactions % 2 else "DELETE", f"/v1/posts/{self.post}/reaction", {"emoji": "👍"})
            case "follow":
                self.follows += 1
                bob.ask("DELETE" if self.follows % 2 else "PUT", f"/v1/users/{self.alice.username}/follow")
            case "post":
                self.posts.append(bob.post_photo("News", seed=len(self.posts + self.settled))["id"])
            case "burst":
                self.bursts.append(threading.Thread(target=self.tell_many))
                self.bursts[-1].start()
            case _ if self.settled:
                # Of a post that may be to be told yet a device that comes back is told nothing: live/test_outdated.py.
                bob.delete(f"/v1/posts/{self.settled.pop()}")
            case _:
                pass

    def tell_many(self) -> None:
        """Events so close to each other that some come at any point of what a device does meanwhile."""
        for number in range(BURST):
            publish.deliver([id_of(self.alice)], "test.number", b"%d" % number)
            time.sleep(0.001)

    def settle(self) -> None:
        """Wait until nothing more comes of what was done."""
        while self.bursts:
            self.bursts.pop().join()
        wait_until_heard(self.stack)
        self.settled += self.posts
        self.posts.clear()


@pytest.fixture(scope="module")
def world(stack: Stack) -> Iterator[World]:
    with instance(stack) as second, bad_day(stack, duplicate=0.5, reorder=0.5):
        yield World(stack, (stack.live, second.url))


@given(steps=STEPS)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_who_drops_and_resumes_sees_each_event_once_and_in_order(world: World, steps: list[Any]) -> None:
    world.settle()
    before = kept_for(world.alice)[-1]["seq"]
    phone = Device(world.alice, *world.urls, after=before)
    laptop = Device(world.alice.speaking("msgpack"), *world.urls, after=before)
    devices: dict[str, Device] = {"phone": phone, "laptop": laptop}
    for number, device in enumerate(devices.values()):
        device.come(number)
    for step in steps:
        match step:
            case Drop(name, after):
                devices[name].drop(after)
            case Close(name):
                devices[name].close()
            case Come(name, there, back):
                devices[name].come(there, back)
            case cause:
                world.do(cause)
    world.settle()
    kept = kept_for(world.alice, before)
    for device in devices.values():
        if not device.is_here:
            device.come()
        device.catch_up()
        device.drop()
        assert told_by(device.seen) == told_by(kept)
        assert device.seen == kept
        assert device.resyncs == []
    agrees(world, kept)


def told_by(events: list[dict[str, Any]]) -> list[str]:
    """As one reads them in what a failure says."""
    return [f"{event['seq']} {event['event']} {event['data']}"[:90] for event in events]


def agrees(world: World, events: list[dict[str, Any]]) -> None:
    """What was told is what a new read shows."""
    there: dict[str, set[str]] = {"feed.post": set(), "notification": set(), "message": set()}
    for event in events:
        kind, _, change = event["event"].replace("post_", "post.").rpartition(".")
        if change == "created":
            there[kind].add(event["data"]["id"])
        elif change in ("deleted", "revoked"):
            there[kind].discard(event["data"]["id"])
    alice = world.alice
    assert (
        there["feed.post"]
        <= {post["id"] for post in alice.items("/v1/feed", 50)}
        == {world.post, *world.posts, *world.settled}
    )
    assert there["notification"] <= {one["id"] for one in alice.items("/v1/notifications", 50)}
    assert there["message"] <= {one["id"] for one in history(alice, world.bob, 50)}
