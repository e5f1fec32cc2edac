"""Who is hidden from the owner, or gone, is neither shown nor counted: decided when it is read."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from infra.local.stack import Stack
from shared.kernel import db, ids, ledger
from shared.notifications import actions, reads
from shared.notifications.model import Act
from shared.profiles import reads as profiles
from tests.client import Person, wait_until
from tests.profiles.people import leave

# By id, and with nothing told to Redis but how they stand: what is told here is how it is read.
STAND = db.Statement(
    """INSERT INTO relationships AS r (user_id, other_id, blocked_at, muted_at) VALUES (:one, :two, :blocked, :muted)
       ON CONFLICT (user_id, other_id)
       DO UPDATE SET blocked_at = excluded.blocked_at, muted_at = excluded.muted_at, version = r.version + 1"""
)
Hide = Callable[[int, int], None]


def id_of(person: Person) -> int:
    return profiles.named([person.username])[person.username]


def stand(one: int, two: int, *, blocked: bool = False, muted: bool = False) -> None:
    with db.connection() as conn:
        STAND.run(conn, one=one, two=two, blocked=1 if blocked else None, muted=1 if muted else None)
    profiles.refresh_relationship(one, two)


def blocks(owner: int, actor: int) -> None:
    stand(owner, actor, blocked=True)


def is_blocked(owner: int, actor: int) -> None:
    stand(actor, owner, blocked=True)


def mutes(owner: int, actor: int) -> None:
    stand(owner, actor, muted=True)


def outlives(owner: int, actor: int) -> None:
    leave(actor)


def later_id() -> int:
    """An id of a later millisecond than any before: ids order no finer."""
    time.sleep(0.002)
    return ids.new_id()


def listed(owner: Person) -> list[Any]:
    return owner.get("/v1/notifications")["items"]


def shown(owner: Person) -> tuple[list[str], int]:
    (group,) = listed(owner)
    return [actor["username"] for actor in group["actors"]], group["actor_count"]


@pytest.mark.parametrize("hide", [blocks, is_blocked, mutes, outlives])
def test_the_hidden_are_neither_shown_nor_counted(stack: Stack, person: Callable[[], Person], hide: Hide) -> None:
    alice, *fans = [person() for _ in range(6)]
    owner, who = id_of(alice), {fan.username: id_of(fan) for fan in fans}
    acts = [Act(owner, "follow", f"user:{alice.username}", actor, later_id(), 1) for actor in who.values()]
    actions.apply(acts)
    names = list(who)
    assert shown(alice) == (names[:1:-1], 5)
    acted_at = [ids.made_at(act.act_id or 0) for act in acts]

    # What is cached still counts them, and shows none of them.
    for name in names[2:]:
        hide(owner, who[name])
    assert not any(name in str(listed(alice)) for name in names[2:])
    assert reads.unread_count(owner) == 1

    actions.refresh(owner)
    assert shown(alice) == (names[1::-1], 2)
    assert listed(alice)[0]["at"] == acted_at[1]

    for name in names[:2]:
        hide(owner, who[name])
    actions.refresh(owner)
    assert listed(alice) == []
    assert reads.unread_count(owner) == alice.get("/v1/me")["unread"]["notifications"] == 0


def test_what_is_no_longer_hidden_is_there_again(alice: Person, bob: Person) -> None:
    owner, actor = id_of(alice), id_of(bob)
    actions.apply([Act(owner, "follow", f"user:{alice.username}", actor, ids.new_id(), 1)])
    mutes(owner, actor)
    actions.refresh(owner)
    assert listed(alice) == []
    stand(owner, actor)
    actions.refresh(owner)
    assert shown(alice) == ([bob.username], 1)


def test_a_group_whose_last_visible_actor_goes_is_revoked_live(alice: Person, bob: Person, person: Any) -> None:
    carol = person()
    owner, muted = id_of(alice), id_of(bob)
    subject = f"user:{alice.username}"
    with alice.live() as live:
        actions.apply([Act(owner, "follow", subject, actor, ids.new_id(), 1) for actor in (muted, id_of(carol))])
        told = live.event("notification.created")["data"]
        mutes(owner, muted)
        actions.apply([Act(owner, "follow", subject, id_of(carol), None, 2)])
        assert live.event("notification.revoked")["data"] == {"id": told["id"]}
    wait_until(lambda: listed(alice) == [])


def test_pages_past_hidden_groups_are_full(alice: Person, bob: Person, person: Any) -> None:
    carol = person()
    owner, muted, seen = id_of(alice), id_of(bob), id_of(carol)
    path = f"/v1/posts/{carol.post_photo()['id']}/comments"
    subjects = [f"comment:{carol.post(path, {'text': 'Yes'})['id']}" for _ in range(30)]
    actions.apply(
        [
            Act(owner, "mention", subject, muted if number % 3 else seen, ids.new_id(), 1)
            for number, subject in enumerate(subjects)
        ]
    )
    mutes(owner, muted)
    actions.refresh(owner)
    assert len(alice.get("/v1/notifications", limit=9)["items"]) == 9
    assert len(list(alice.items("/v1/notifications", limit=4))) == reads.unread_count(owner) == 10


def test_a_count_is_one_trip(alice: Person) -> None:
    owner = id_of(alice)
    trips = ledger.open_ledger()
    reads.unread_count(owner)
    assert trips["postgres"].trips == 1
