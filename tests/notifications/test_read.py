"""A group is read as long as nothing is left in it that came after it was read."""

from collections.abc import Callable
from typing import Any

import pytest

from infra.leaks.plant import RELATIONS
from infra.local.stack import Stack
from shared.kernel import ids
from shared.notifications import actions
from shared.notifications.model import Act
from shared.profiles import reads as profiles
from tests.client import Person, wait_until

GOES: dict[str, Callable[[Stack, Person, Person], object]] = {
    "unfollowing": lambda _, owner, actor: actor.delete(f"/v1/users/{owner.username}/follow"),
    **RELATIONS,
}


def id_of(person: Person) -> int:
    return profiles.named([person.username])[person.username]


def shown(owner: Person) -> tuple[int, bool, int]:
    """How many acted in the only group, whether it is unread, and how many groups are counted as such."""
    (group,) = owner.get("/v1/notifications")["items"]
    return group["actor_count"], group["unread"], owner.get("/v1/me")["unread"]["notifications"]


@pytest.mark.parametrize("goes", GOES)
def test_who_came_after_it_was_read_leaves_it_read_by_going(
    stack: Stack, alice: Person, bob: Person, person: Callable[[], Person], goes: str
) -> None:
    carol = person()
    bob.follow(alice.username)
    wait_until(lambda: alice.get("/v1/notifications")["items"])
    alice.put("/v1/notifications/read")
    carol.follow(alice.username)
    wait_until(lambda: shown(alice) == (2, True, 1))
    GOES[goes](stack, alice, carol)
    wait_until(lambda: shown(alice) == (1, False, 0))


def test_what_is_heard_late_was_not_read(alice: Person, bob: Person, person: Callable[[], Person]) -> None:
    dan, erin = person(), person()
    subject = f"post:{alice.post_photo()['id']}"
    first, second, third = (made << ids.RANDOM_BITS for made in (1_000, 2_000, 3_000))

    def reacts(person: Person, act_id: int | None, version: int = 1) -> tuple[int, bool, int]:
        actions.apply([Act(id_of(alice), "reaction", subject, id_of(person), act_id, version)])
        return shown(alice)

    reacts(bob, second)
    alice.put("/v1/notifications/read")
    assert reacts(dan, first) == (2, True, 1)
    # Nor is it by what somebody else takes back.
    assert reacts(erin, third) == (3, True, 1)
    assert reacts(erin, None, 2) == (2, True, 1)
    read: dict[str, Any] = alice.put("/v1/notifications/read")
    assert read["unread"]["notifications"] == 0
    assert shown(alice) == (2, False, 0)


def test_what_is_undone_and_then_heard_of_again_is_unread(alice: Person, bob: Person) -> None:
    for count in range(2):
        bob.follow(alice.username)
        wait_until(lambda: alice.get("/v1/notifications")["items"])
        assert shown(alice) == (1, True, 1), count
        alice.put("/v1/notifications/read")
        assert shown(alice) == (1, False, 0)
        bob.delete(f"/v1/users/{alice.username}/follow")
        wait_until(lambda: not alice.get("/v1/notifications")["items"])
