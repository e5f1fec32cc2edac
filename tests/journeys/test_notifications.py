"""Notifications one by one: reading them, and turning types of them off."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

import httpx
import pytest

from shared.kernel import ids
from shared.notifications import actions
from shared.notifications.model import Act, NotificationType
from shared.profiles import reads as profiles
from tests.client import Format, Live, Person, decoded, trips, wait_until

Problem = Callable[[httpx.Response, int, str], dict[str, Any]]
SETTINGS = "/v1/me/notification-settings"
ALL_ON = dict.fromkeys(get_args(NotificationType), True)


@pytest.fixture(params=["json", "msgpack"])
def owner(alice: Person, request: pytest.FixtureRequest) -> Person:
    """Alice, speaking either format."""
    format: Format = request.param
    return alice.speaking(format)


def id_of(person: Person) -> int:
    return profiles.named([person.username])[person.username]


def listed(owner: Person) -> list[dict[str, Any]]:
    return owner.get("/v1/notifications")["items"]


def groups(live: Live) -> list[dict[str, Any]]:
    return [event["data"] for event in live.events if event["event"] == "notification.created"]


def edit(owner: Person, **settings: Any) -> Any:
    answer = owner.ask("PATCH", SETTINGS, settings)
    assert answer.status_code == 200, answer.text
    return decoded(answer)


def test_each_notification_is_read_by_itself(owner: Person, bob: Person, problem: Problem) -> None:
    bob.follow(owner.username)
    bob.post_photo(f"Look, @{owner.username}")
    both = wait_until(lambda: [found for found in [listed(owner)] if len(found) == 2])[0]
    mention = next(one for one in both if one["type"] == "mention")
    rest = [one for one in both if one != mention]

    read = owner.put(f"/v1/notifications/{mention['id']}/read")
    assert read == mention | {"unread": False}
    assert [one for one in listed(owner) if one["unread"]] == rest
    assert owner.get("/v1/me")["unread"]["notifications"] == 1
    assert owner.put(f"/v1/notifications/{mention['id']}/read") == read

    problem(bob.ask("PUT", f"/v1/notifications/{mention['id']}/read"), 404, "notification_not_found")
    for unknown in (ids.encode(ids.new_id()), "x", "0" * 13):
        problem(owner.ask("PUT", f"/v1/notifications/{unknown}/read"), 404, "notification_not_found")
    assert owner.put("/v1/notifications/read")["unread"]["notifications"] == 0


def test_one_that_was_taken_back_is_not_there_to_be_read(owner: Person, bob: Person, problem: Problem) -> None:
    bob.follow(owner.username)
    (follow,) = wait_until(lambda: listed(owner))
    bob.delete(f"/v1/users/{owner.username}/follow")
    wait_until(lambda: not listed(owner))
    problem(owner.ask("PUT", f"/v1/notifications/{follow['id']}/read"), 404, "notification_not_found")


def test_what_happens_after_it_was_read_makes_it_unread(owner: Person, bob: Person, person: Any) -> None:
    bob.follow(owner.username)
    (follow,) = wait_until(lambda: listed(owner))
    owner.put(f"/v1/notifications/{follow['id']}/read")
    person().follow(owner.username)
    (grown,) = wait_until(lambda: [one for one in listed(owner) if one["actor_count"] == 2])
    assert (grown["id"], grown["unread"]) == (follow["id"], True)
    assert owner.get("/v1/me")["unread"]["notifications"] == 1


@pytest.mark.parametrize("path", ["/v1/notifications/read", "/v1/notifications/{id}/read"])
def test_what_was_read_stays_read_when_a_later_act_is_taken_back(
    owner: Person, bob: Person, person: Any, path: str
) -> None:
    carol, dan, reaction = person(), person(), f"/v1/posts/{owner.post_photo()['id']}/reaction"

    def grown(count: int) -> dict[str, Any]:
        return wait_until(lambda: [one for one in listed(owner) if one["actor_count"] == count])[0]

    def unread() -> int:
        count: int = owner.get("/v1/me")["unread"]["notifications"]
        return count

    with owner.live() as live:

        def told(count: int) -> dict[str, Any]:
            """The group as it was told live once so many were in it."""
            while not (found := [group for group in groups(live) if group["actor_count"] == count]):
                live.receive()
            return found[0]

        for reader in (bob, carol):
            reader.put(reaction, {"emoji": "👍"})
        owner.put(path.format(id=told(2)["id"]))
        dan.put(reaction, {"emoji": "🦊"})
        assert told(3)["unread"] is True
        assert (grown(3)["unread"], unread()) == (True, 1)
        dan.delete(reaction)
        assert (grown(2)["unread"], unread()) == (False, 0)
        wait_until(lambda: live.drain() and groups(live)[-1] == listed(owner)[0])

        # Of several the last that is left counts: one that was not read keeps it unread.
        for reader in (dan, person()):
            reader.put(reaction, {"emoji": "🦊"})
        grown(4)
        dan.delete(reaction)
        assert (grown(3)["unread"], unread()) == (True, 1)


def test_a_type_turned_off_is_not_told_and_others_are(owner: Person, bob: Person, person: Any) -> None:
    assert owner.get("/v1/me")["settings"] == ALL_ON | {"presence": True}
    assert edit(owner, follow=False) == ALL_ON | {"follow": False}
    assert owner.get("/v1/me")["settings"] == ALL_ON | {"follow": False, "presence": True}
    with owner.live() as live:
        bob.follow(owner.username)
        wait_until(lambda: owner.get(f"/v1/users/{owner.username}")["counts"]["followers"] == 1)
        post = bob.post_photo(f"Look, @{owner.username}")
        told = live.event("notification.created")["data"]
        assert (told["type"], told["subject"]["id"]) == ("mention", post["id"])
        assert listed(owner) == [told]
        assert owner.get("/v1/me")["unread"]["notifications"] == 1

        # On again: what was done meanwhile stays untold, what is done now is told.
        assert edit(owner, follow=True, mention=False) == ALL_ON | {"mention": False}
        person().follow(owner.username)
        (follow,) = wait_until(lambda: [one for one in listed(owner) if one["type"] == "follow"])
        assert follow["actor_count"] == 1
        assert bob.username not in str(follow["actors"])


def test_what_was_told_before_stays_and_is_taken_back(owner: Person, bob: Person) -> None:
    bob.follow(owner.username)
    with owner.live() as live:
        (follow,) = wait_until(lambda: listed(owner))
        edit(owner, follow=False)
        assert listed(owner) == [follow]
        bob.delete(f"/v1/users/{owner.username}/follow")
        assert live.event("notification.revoked")["data"] == {"id": follow["id"]}
        assert listed(owner) == []


def test_an_earlier_act_in_place_of_one_undone_is_taken_while_its_type_is_off(alice: Person, bob: Person) -> None:
    owner, actor = id_of(alice), id_of(bob)
    subject = f"post:{alice.post_photo()['id']}"
    first, second = (made << ids.RANDOM_BITS for made in (1_000, 2_000))

    def comments(act_id: int, version: int) -> int:
        actions.apply([Act(owner, "comment", subject, actor, act_id, version)])
        (group,) = listed(alice)
        return group["at"]

    assert comments(second, 1) == ids.made_at(second)
    edit(alice, comment=False)
    assert comments(first, 2) == ids.made_at(first)
    assert comments(second, 3) == ids.made_at(first)


@pytest.mark.parametrize("kind", get_args(NotificationType))
def test_each_type_has_its_switch(alice: Person, bob: Person, kind: NotificationType) -> None:
    edit(alice, **{kind: False})
    subject = f"post:{alice.post_photo()['id']}"
    act_of = {
        each: Act(id_of(alice), each, subject, id_of(bob), ids.new_id(), 1) for each in get_args(NotificationType)
    }
    actions.apply(list(act_of.values()))
    assert {one["type"] for one in listed(alice)} == ALL_ON.keys() - {kind}
    assert alice.get("/v1/me")["unread"]["notifications"] == len(ALL_ON) - 1


def test_edits_at_once_are_all_kept(alice: Person) -> None:
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda kind: edit(alice, **{kind: False}), ALL_ON))
        assert edit(alice) == dict.fromkeys(ALL_ON, False)
        list(threads.map(lambda kind: edit(alice, **{kind: True}), ALL_ON))
    assert edit(alice) == ALL_ON


def test_bad_settings_change_nothing_and_each_fault_is_named(owner: Person, problem: Problem) -> None:
    body = {"follow": False, "reaction": "no", "mention": None, "likes": True}
    refused = problem(owner.ask("PATCH", SETTINGS, body), 422, "invalid")
    assert {fault["field"] for fault in refused["errors"]} == {"reaction", "mention", "likes"}
    assert owner.get("/v1/me")["settings"] == ALL_ON | {"presence": True}


def test_an_edit_is_one_round_trip(alice: Person) -> None:
    edit(alice, follow=False)
    assert trips(alice.ask("PATCH", SETTINGS, {"follow": True}), "postgres") == 1
