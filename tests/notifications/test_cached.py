"""What is cached of notifications goes when they change, even if Redis was away when they did."""

from collections.abc import Iterator
from contextlib import contextmanager

from infra.local.stack import Stack
from shared.kernel import cache, ids
from shared.notifications import actions
from shared.notifications.model import Act
from shared.profiles import reads as profiles
from tests.client import Person, standing_still, wait_until


def id_of(person: Person) -> int:
    return profiles.named([person.username])[person.username]


@contextmanager
def unheard_by_redis(stack: Stack, owner: Person) -> Iterator[None]:
    """What is done meanwhile leaves the cached value as it was: as when Redis was away just then."""
    key = f"notifications:{ids.encode(id_of(owner))}"
    with standing_still(stack, "background", "relay"):
        (before,) = cache.run_sync(("GET", key))
        yield
        cache.run_sync(("DEL", key) if before is None else ("SET", key, before))
        assert cache.run_sync(("GET", key)) == [before]


def test_a_change_that_redis_missed_is_shown_once_its_event_is_heard(stack: Stack, alice: Person, bob: Person) -> None:
    assert alice.get("/v1/notifications")["items"] == []
    act = Act(id_of(alice), "follow", f"user:{alice.username}", id_of(bob), ids.new_id(), 1)
    with unheard_by_redis(stack, alice):
        actions.apply([act])
    wait_until(lambda: alice.get("/v1/notifications")["items"])


def test_marking_as_read_that_redis_missed_is_shown_once_its_event_is_heard(
    stack: Stack, alice: Person, bob: Person
) -> None:
    with alice.live() as live:
        bob.follow(alice.username)
        live.event("notification.created")
        assert alice.get("/v1/notifications")["items"][0]["unread"] is True
        with unheard_by_redis(stack, alice):
            alice.put("/v1/notifications/read")
        wait_until(lambda: not alice.get("/v1/notifications")["items"][0]["unread"])
        assert [event["event"] for event in live.drain()] == ["notification.created"]
