"""Stories of two instances and their devices, in both formats, while what they stand on is killed or emptied."""

import secrets
import time
from collections.abc import Iterator
from typing import Any

import pytest

from infra.client import Client
from infra.local.stack import Stack, ephemeral
from shared.kernel import cache
from tests.chat.talk import friends, history, text
from tests.client import Format, Live, processes, sign_up, wait_until
from tests.heard import wait_until_heard
from tests.live.devices import Device, bad_day, kept_for
from tests.live.instances import Instance, instance
from tests.servers import using

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240), pytest.mark.parametrize("format", ["json", "msgpack"])]

PATIENCE_SECONDS = 60.0


@pytest.fixture(scope="module")
def doomed() -> Iterator[Stack]:
    """A stack of its own, which duplicates and reorders, and this process part of it."""
    with ephemeral() as stack, using(stack.env), bad_day(stack, duplicate=0.5, reorder=0.5):
        yield stack


@pytest.fixture
def second(doomed: Stack) -> Iterator[Instance]:
    """Another instance."""
    with instance(doomed) as there:
        yield there


class Cast:
    """Alice, with a phone on the one instance, a laptop on the other and a tablet that is off; bob writes to her."""

    def __init__(self, stack: Stack, second: Instance, format: Format) -> None:
        self.alice, self.bob = sign_up(stack, format=format), sign_up(stack)
        friends(self.alice, self.bob)
        self.told: list[str] = []
        self.tell("Before all")
        wait_until_heard(stack)
        self.before = kept_for(self.alice)[-1]["seq"]
        self.phone, self.laptop, self.tablet = (
            Device(self.alice, stack.live, second.url, after=self.before) for _ in range(3)
        )
        self.devices = (self.phone, self.laptop, self.tablet)

    def tell(self, words: str) -> None:
        """Bob writes, as a good client does: again, until it is answered."""
        body = {"client_id": secrets.token_hex(8), "content": text(words)}
        bob = Client(self.bob.url, tokens=self.bob.tokens, patience=PATIENCE_SECONDS)
        self.told.append(bob.post(f"/v1/chats/{self.alice.username}/messages", body)["id"])

    def hear(self, device: Device, instance: int = 0) -> None:
        """Have it listen, coming back to this instance, until it was told the last."""

        def told() -> bool:
            device.stay(0.05, instance=instance)
            return any(is_message(event, self.told[-1]) for event in device.seen)

        wait_until(told, PATIENCE_SECONDS)


def is_message(event: dict[str, Any], message: str) -> bool:
    return event["event"] == "message.created" and event["data"]["id"] == message


def test_an_instance_is_killed_and_its_clients_go_to_the_other(doomed: Stack, second: Instance, format: Format) -> None:
    cast = Cast(doomed, second, format)
    alice, bob, phone, laptop = cast.alice, cast.bob, cast.phone, cast.laptop
    with bob.speaking(format).live() as watching:
        watching.act("subscribe", {"topics": [f"presence:{alice.username}"]})
        laptop.come(1)
        cast.tell("To the laptop")
        cast.hear(laptop, 1)
        second.process.kill()
        second.process.wait()
        cast.tell("To nobody")
        bob.post_photo(f"News, @{alice.username}")
        cast.hear(laptop)
        phone.come()
        cast.tell("To both")
        wait_until_heard(doomed)
        kept = kept_for(alice, cast.before)
        for device in (phone, laptop):
            device.catch_up()
            assert (device.seen, device.resyncs) == (kept, [])
            device.close()
        assert {event["event"] for event in kept} == {"message.created", "feed.post_created", "notification.created"}
        # She was away for a moment only, which nobody was told.
        comes(watching, "offline", "online", "offline")
        phone.come()
        comes(watching, "offline", "online", "offline", "online")
        phone.close()


def comes(watching: Live, *wanted: str) -> None:
    """Just this is heard of alice's presence."""

    until = time.monotonic() + PATIENCE_SECONDS
    while len(presences(watching)) < len(wanted):
        watching.receive(until - time.monotonic())
    watching.drain()
    assert presences(watching) == list(wanted)


def presences(watching: Live) -> list[str]:
    return [event["data"]["presence"] for event in watching.events if event["event"] == "presence.changed"]


def both_here(stack: Stack, second: Instance, format: Format) -> Cast:
    """A cast whose two devices have heard something, each at its instance."""
    cast = Cast(stack, second, format)
    cast.phone.come(0)
    cast.laptop.come(1)
    cast.tell("To both")
    for device in (cast.phone, cast.laptop):
        cast.hear(device)
    return cast


def test_redis_is_killed_and_comes_back(doomed: Stack, second: Instance, format: Format) -> None:
    cast = both_here(doomed, second, format)
    pid = doomed.reread().pids["valkey"]
    for process in processes(doomed, "valkey"):
        process.kill()
    cast.tell("While it is away")
    wait_until(lambda: doomed.reread().pids["valkey"] != pid, PATIENCE_SECONDS)
    resyncs_once(doomed, cast)


def test_redis_is_emptied(doomed: Stack, second: Instance, format: Format) -> None:
    cast = both_here(doomed, second, format)
    cache.run_sync(("FLUSHALL",))
    cast.tell("To an empty one")
    resyncs_once(doomed, cast)


def resyncs_once(stack: Stack, cast: Cast) -> None:
    """Whoever may have missed something is told so once, and reads anew; from there on nothing is missed."""
    for number, device in enumerate(cast.devices):
        # The tablet comes when this is known; the others hear of it where they are.
        wait_until(lambda device=device, number=number: device.stay(0.05, instance=number % 2) or device.resyncs, 60)
    read = {one["id"] for one in history(cast.alice, cast.bob)}
    cast.tell("After it")
    for number, device in enumerate(cast.devices):
        cast.hear(device, number % 2)
    wait_until_heard(stack)
    for device in cast.devices:
        device.drop()
    cast.tell("To who dropped")
    for number, device in enumerate(cast.devices):
        cast.hear(device, 1 - number % 2)
        device.catch_up()
        (at,) = device.resyncs
        heard = [event["data"]["id"] for event in device.seen[at:] if event["event"] == "message.created"]
        assert read | set(heard) == set(cast.told)
        assert device.seen[-2:] == kept_for(cast.alice)[-2:]
