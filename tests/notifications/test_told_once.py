"""Each change of a notification is told live, once, at least in what it led to."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from infra.local.stack import Stack
from shared.kernel import db, ids
from shared.live import publish
from shared.notifications import actions
from shared.notifications.model import Act, NotificationChanged
from shared.profiles import reads as profiles
from tests.client import Live, Person, standing_still, wait_until
from tests.locks import somebody_waits_for


class PayloadRow(msgspec.Struct, frozen=True):
    payload: bytes


GROW = db.Statement("UPDATE notifications SET actor_count = 7, version = version + 1 WHERE id = :id")
BEGIN = db.Statement("UPDATE notifications SET tell_at = NULL WHERE id = :id")
LOSE = db.Statement("UPDATE notifications SET tell_at = tell_at - 3600000 WHERE id = :id")
WAITING = db.Statement(
    "SELECT payload FROM outbox WHERE topic = 'notification_changed' ORDER BY id DESC LIMIT 1000", PayloadRow
)


@pytest.fixture
def others(person: Callable[[], Person]) -> list[Person]:
    return [person(), person()]


@pytest.fixture(autouse=True)
def nobody_else_tells(stack: Stack, alice: Person, bob: Person, others: list[Person]) -> Iterator[None]:
    with standing_still(stack, "background", "relay"):
        yield


def id_of(person: Person) -> int:
    return profiles.named([person.username])[person.username]


def waiting_for(person: Person) -> list[NotificationChanged]:
    """What is in the outbox for someone, oldest first."""
    with db.connection() as conn:
        rows = WAITING.all(conn)
    events = [msgspec.json.decode(row.payload, type=NotificationChanged) for row in reversed(rows)]
    return [event for event in events if event.user_id == id_of(person)]


def follow_of(follower: Person, followee: Person, version: int = 1, *, undone: bool = False) -> Act:
    act_id = None if undone else ids.new_id()
    return Act(id_of(followee), "follow", f"user:{followee.username}", id_of(follower), act_id, version)


def told(live: Live, person: Person, name: str = "notification.created") -> list[Any]:
    """All that has been sent to a person under this name: an end mark comes after it."""
    end = f"test.end.{ids.new_id()}"
    publish.deliver([id_of(person)], end, b"null")
    live.event(end)
    return [event["data"] for event in live.events if event["event"] == name]


def test_an_act_heard_again_swallows_no_news(alice: Person, bob: Person) -> None:
    act = follow_of(bob, alice)
    with alice.live() as live:
        actions.apply([act])
        actions.apply([act])
        (event,) = waiting_for(alice)
        actions.push(event)
        actions.push(event)
        assert told(live, alice) == alice.get("/v1/notifications")["items"]


def test_marking_as_read_swallows_no_news_and_is_none(alice: Person, bob: Person) -> None:
    with alice.live() as live:
        actions.apply([follow_of(bob, alice)])
        alice.put("/v1/notifications/read")
        (event,) = waiting_for(alice)
        actions.push(event)
        assert [notification["unread"] for notification in told(live, alice)] == [False]
        alice.put("/v1/notifications/read")
        actions.push(event)
        assert len(told(live, alice)) == 1


def test_changes_told_late_are_told_once_as_what_they_led_to(alice: Person, bob: Person) -> None:
    with alice.live() as live:
        actions.apply([follow_of(bob, alice, 1)])
        actions.apply([follow_of(bob, alice, 2, undone=True)])
        actions.apply([follow_of(bob, alice, 3)])
        (first,) = waiting_for(alice)
        actions.push(first)
        assert told(live, alice) == alice.get("/v1/notifications")["items"]

        actions.apply([follow_of(bob, alice, 4, undone=True)])
        _, second = waiting_for(alice)
        assert second.due_at >= first.due_at + actions.TOLD_APART_MS
        # One that comes again tells nothing of what another is due to tell.
        actions.push(first)
        assert told(live, alice, "notification.revoked") == []
        actions.push(second)
        actions.push(first)
        assert told(live, alice, "notification.revoked") == [{"id": told(live, alice)[0]["id"]}]


def test_many_who_tell_at_once_tell_it_once(alice: Person, bob: Person) -> None:
    actions.apply([follow_of(bob, alice, 1)])
    (event,) = waiting_for(alice)
    with alice.live() as live, ThreadPoolExecutor(8) as threads:
        list(threads.map(actions.push, [event] * 16))
        assert len(told(live, alice)) == 1


def test_who_tells_waits_for_a_change_under_way(alice: Person, bob: Person) -> None:
    actions.apply([follow_of(bob, alice, 1)])
    (event,) = waiting_for(alice)
    with alice.live() as live, ThreadPoolExecutor(1) as threads:
        with db.transaction() as conn:
            # As one that counts on this event to tell it, and commits only once it is due.
            GROW.run(conn, id=event.notification_id)
            telling = threads.submit(actions.push, event)
            wait_until(lambda: somebody_waits_for(conn))
        telling.result(10)
        assert [group["actor_count"] for group in told(live, alice)] == [7]


def test_what_was_begun_and_not_told_is_told_when_its_event_comes_again(alice: Person, bob: Person) -> None:
    actions.apply([follow_of(bob, alice, 1)])
    (event,) = waiting_for(alice)
    with db.connection() as conn:
        BEGIN.run(conn, id=event.notification_id)
    with alice.live() as live:
        actions.push(event)
        assert len(told(live, alice)) == 1


def test_a_change_after_an_event_that_never_came_has_one_of_its_own(alice: Person, bob: Person) -> None:
    actions.apply([follow_of(bob, alice, 1)])
    (first,) = waiting_for(alice)
    with db.connection() as conn:
        LOSE.run(conn, id=first.notification_id)
    actions.apply([follow_of(bob, alice, 2, undone=True)])
    actions.apply([follow_of(bob, alice, 3)])
    assert len(waiting_for(alice)) == 2


def test_taking_back_what_nobody_heard_of_is_no_news(alice: Person, bob: Person) -> None:
    actions.apply([follow_of(bob, alice, 2, undone=True)])
    actions.apply([follow_of(bob, alice, 1)])
    assert waiting_for(alice) == []
    assert alice.get("/v1/notifications")["items"] == []


def test_nothing_older_is_told_after_something_newer(alice: Person) -> None:
    once = f"notification:{alice.username}"
    with alice.live() as live:
        for version in (1, 3, 2, 3, 4):
            publish.deliver([id_of(alice)], "test.version", b"%d" % version, once=once, version=version)
        assert told(live, alice, "test.version") == [1, 3, 4]


def test_undoing_one_of_several_is_told_as_what_is_left(alice: Person, bob: Person, others: list[Person]) -> None:
    with alice.live() as live:
        actions.apply([follow_of(one, alice) for one in (bob, *others)])
        alice.put("/v1/notifications/read")
        for event in waiting_for(alice):
            actions.push(event)
        (before,) = told(live, alice)
        assert (before["actor_count"], before["unread"]) == (3, False)

        actions.apply([follow_of(others[1], alice, 2, undone=True)])
        for event in waiting_for(alice):
            actions.push(event)
        (after,) = alice.get("/v1/notifications")["items"]
        assert (after["actor_count"], after["unread"]) == (2, False)
        assert told(live, alice) == [before, after]
        assert told(live, alice, "notification.revoked") == []

        actions.apply([follow_of(one, alice, 2, undone=True) for one in (bob, others[0])])
        for event in waiting_for(alice):
            actions.push(event)
        assert told(live, alice) == [before, after]
        assert told(live, alice, "notification.revoked") == [{"id": before["id"]}]


@pytest.mark.parametrize("how", ["mute", "block"])
def test_what_is_undone_by_one_who_is_hidden_is_not_told(
    alice: Person, bob: Person, others: list[Person], how: str
) -> None:
    carol = others[0]
    with alice.live() as live:
        actions.apply([follow_of(bob, alice), follow_of(carol, alice)])
        alice.put(f"/v1/users/{bob.username}/{how}")
        for event in waiting_for(alice):
            actions.push(event)
        shown = alice.get("/v1/notifications")["items"]
        assert [group["actor_count"] for group in shown] == [1]
        assert told(live, alice) == shown
        actions.apply([follow_of(bob, alice, 2, undone=True)])
        for event in waiting_for(alice):
            actions.push(event)
        assert told(live, alice) == shown == alice.get("/v1/notifications")["items"]
        # What is cached is dropped all the same.
        assert not waiting_for(alice)[-1].news


def test_news_that_waits_is_told_though_somebody_else_takes_theirs_back(
    alice: Person, bob: Person, others: list[Person]
) -> None:
    carol, dave = others
    with alice.live() as live:
        actions.apply([follow_of(bob, alice), follow_of(carol, alice)])
        (first,) = waiting_for(alice)
        actions.push(first)
        actions.apply([follow_of(carol, alice, 2, undone=True)])
        actions.apply([follow_of(dave, alice)])
        for event in waiting_for(alice):
            actions.push(event)
        assert told(live, alice)[1:] == alice.get("/v1/notifications")["items"]
        assert told(live, alice)[-1]["actor_count"] == 2
