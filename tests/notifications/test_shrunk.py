"""A group of which a block, a mute or a suspension hides some is told as what is left; what shows again is not told."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from infra.leaks.plant import block, make_moderator, mute, suspend
from infra.local.stack import Stack
from shared.kernel import cache, clock, db, ids
from shared.moderation import actions as moderation
from shared.notifications import actions, store
from shared.notifications import told as last_told
from shared.notifications.model import Act, NotificationChanged
from shared.profiles import reads as profiles
from tests.client import PASSWORD, Live, Person, standing_still
from tests.heard import wait_until_heard
from tests.profiles.people import insert_users

Groups = dict[str, dict[str, Any]]


def listed(owner: Person) -> Groups:
    return {group["id"]: group for group in owner.get("/v1/notifications")["items"]}


def names(group: dict[str, Any]) -> set[str]:
    return {actor["username"] for actor in group["actors"]}


class Told:
    """What somebody's socket was told, a quiet point at a time."""

    def __init__(self, stack: Stack, owner: Person, live: Live) -> None:
        self.stack, self.owner, self.live = stack, owner, live
        self.passed = 0

    def since(self) -> list[tuple[str, Any]]:
        """What was told of notifications since this was asked last, now that all that was done is heard."""
        return [(name, data) for name, data in self.all_since() if name.startswith("notification.")]

    def all_since(self) -> list[tuple[str, Any]]:
        """The same, and when to read anew."""
        wait_until_heard(self.stack)
        self.live.drain()
        events, self.passed = self.live.events[self.passed :], len(self.live.events)
        return [(event["event"], event["data"]) for event in events]


def unblock(person: Person, other: Person) -> None:
    person.delete(f"/v1/users/{other.username}/block")


def unmute(person: Person, other: Person) -> None:
    person.delete(f"/v1/users/{other.username}/mute")


def reacted(post: str, *fans: Person) -> None:
    for fan in fans:
        fan.put(f"/v1/posts/{post}/reaction", {"emoji": "🌻"})


WAYS: dict[str, tuple[Callable[[Stack, Person, Person], object], Callable[[Person, Person], object]]] = {
    "blocks the owner": (lambda _, owner, fan: block(fan, owner), lambda owner, fan: unblock(fan, owner)),
    "is blocked": (lambda _, owner, fan: block(owner, fan), unblock),
    "is muted": (lambda _, owner, fan: mute(owner, fan), unmute),
    "is suspended": (lambda stack, _, fan: suspend(stack, fan), lambda _, fan: moderation.unsuspend(fan.username)),
}


@pytest.mark.parametrize("how", WAYS)
def test_a_group_of_which_somebody_is_hidden_is_told_as_what_is_left(
    stack: Stack, alice: Person, bob: Person, person: Callable[[], Person], how: str
) -> None:
    hide, show = WAYS[how]
    carol, post = person(), alice.post_photo()["id"]
    with alice.live() as live:
        told = Told(stack, alice, live)
        reacted(post, bob, carol)
        (first,) = {data["id"] for _, data in told.since()}
        seq = live.events[-1]["seq"]
        for _ in range(2):
            hide(stack, alice, bob)
            (left,) = listed(alice).values()
            assert (left["actor_count"], names(left)) == (1, {carol.username})
            assert told.since() == [("notification.created", left)]
            with alice.live() as late:
                assert late.act("resume", {"after": seq})["ok"]
                assert late.event("notification.created")["data"] == left
            seq = live.events[-1]["seq"]
            show(alice, bob)
            assert listed(alice)[first]["actor_count"] == 2
            assert told.since() == []
        # And when nobody is left.
        hide(stack, alice, bob)
        hide(stack, alice, carol)
        assert told.since()[-1] == ("notification.revoked", {"id": first})
        show(alice, bob)
        show(alice, carol)
        assert listed(alice)[first]["actor_count"] == 2
        assert told.since() == []


def test_whoever_is_hidden_meanwhile_is_not_in_what_was_told_last(
    stack: Stack, alice: Person, bob: Person, person: Callable[[], Person]
) -> None:
    carol, dave, post = person(), person(), alice.post_photo()["id"]
    with alice.live() as live:
        told = Told(stack, alice, live)
        reacted(post, bob, carol, dave)
        told.since()
        # Two at once, then one of them for the third: as many as before are hidden or fewer, but not the same.
        block(bob, alice)
        block(carol, alice)
        assert names(told.since()[-1][1]) == {dave.username}
        block(dave, alice)
        unblock(bob, alice)
        unblock(carol, alice)
        assert told.since()[-1] == ("notification.created", *listed(alice).values())
        mute(alice, bob)
        assert told.since() == [("notification.created", *listed(alice).values())]
        # Hidden in another way too, and in one way fewer: nothing changes.
        suspend(stack, bob)
        moderation.unsuspend(bob.username)
        assert told.since() == []


def test_hiding_is_told_once_however_often_its_event_comes_and_never_after_something_newer(
    stack: Stack, alice: Person, bob: Person, person: Callable[[], Person]
) -> None:
    carol, dave, post = person(), person(), alice.post_photo()["id"]
    owner = profiles.named([alice.username])[alice.username]
    with alice.live() as live:
        told = Told(stack, alice, live)
        reacted(post, bob, carol)
        told.since()
        block(bob, alice)
        ((_, left),) = told.since()
        look = NotificationChanged(ids.decode(left["id"]), owner, clock.now_ms(), news=False)
        for _ in range(3):
            actions.push(look)
        assert told.since() == []
        reacted(post, dave)
        assert [data["actor_count"] for _, data in told.since()] == [2]
        actions.push(look)
        unblock(bob, alice)
        actions.push(look)
        assert told.since() == []


def test_who_read_before_it_was_hidden_tells_nothing_after_it_and_who_died_before_telling_tells_it(
    stack: Stack, alice: Person, bob: Person, person: Callable[[], Person]
) -> None:
    carol, post = person(), alice.post_photo()["id"]
    with alice.live() as live:
        told = Told(stack, alice, live)
        reacted(post, bob, carol)
        told.since()
        (group,) = listed(alice)
        before = as_read(alice, group)
        with standing_still(stack, "background", "relay"):
            block(bob, alice)
            # As one would who read it now, and has not told it yet.
            (rank,) = cache.run_sync(last_told.rank(as_read(alice, group), showing=True))
            assert rank is not None
            assert cache.run_sync(last_told.rank(before, showing=True)) == [None]
            look = NotificationChanged(ids.decode(group), before.user_id, clock.now_ms())
            for _ in range(2):
                actions.push(look)
        assert told.since() == [("notification.created", listed(alice)[group])]


def as_read(owner: Person, group: str) -> store.ToldRow:
    with db.connection() as conn:
        return store.BY_ID.one(conn, id=ids.decode(group), user_id=profiles.named([owner.username])[owner.username])


def test_of_a_viral_post_what_is_hidden_is_told_once_a_second(stack: Stack, alice: Person) -> None:
    found = profiles.named([alice.username])
    owner, crowd, post = found[alice.username], insert_users(40), alice.post_photo()["id"]
    subject = f"post:{post}"
    with alice.live() as live:
        told = Told(stack, alice, live)
        actions.apply([Act(owner, "reaction", subject, actor, ids.new_id(), 1) for actor in crowd])
        ((_, first),) = told.since()
        began = clock.now_ms()
        for actor in crowd[:20]:
            alice.put(f"/v1/users/{profiles.username_of(actor)}/block")
        events = told.since()
        assert len(events) <= (clock.now_ms() - began) / actions.TOLD_APART_MS + 2
        assert events[-1] == ("notification.created", listed(alice)[first["id"]])
        assert events[-1][1]["actor_count"] == 20


@pytest.mark.parametrize("hidden_before", [False, True])
def test_what_a_block_hides_and_undoes_is_told_also_if_the_undoing_is_heard_first(
    stack: Stack, alice: Person, bob: Person, person: Callable[[], Person], hidden_before: bool
) -> None:
    carol, found = person(), profiles.named([alice.username, bob.username])
    bob.follow(alice.username)
    carol.follow(alice.username)
    with alice.live() as live:
        told = Told(stack, alice, live)
        told.since()
        if hidden_before:
            mute(alice, bob)
            assert len(told.since()) == 1
        with standing_still(stack, "background", "relay"):
            block(bob, alice)
            followed, follower = found[alice.username], found[bob.username]
            actions.apply([Act(followed, "follow", f"user:{alice.username}", follower, None, 1_000_000)])
        (left,) = listed(alice).values()
        assert names(left) == {carol.username}
        assert told.since() == ([] if hidden_before else [("notification.created", left)])


def test_what_a_mute_and_a_block_hid_is_revoked_again_once_neither_does(
    stack: Stack, alice: Person, bob: Person
) -> None:
    post = bob.post_photo(description=f"You, @{alice.username}")["id"]
    with alice.live() as live:
        told = Told(stack, alice, live)
        ((_, mention),) = told.since()
        gone = ("notification.revoked", {"id": mention["id"]})
        assert mention["subject"]["id"] == post
        mute(alice, bob)
        assert told.since() == [gone]
        block(alice, bob)
        unblock(alice, bob)
        assert told.since() == []
        unmute(alice, bob)
        assert told.since() == []
        assert listed(alice).keys() == {mention["id"]}
        block(bob, alice)
        assert told.since() == [gone]


def test_what_is_revoked_is_not_again_when_it_is_undone_or_hidden_in_another_way(
    stack: Stack, alice: Person, bob: Person
) -> None:
    post = alice.post_photo()["id"]
    bob.follow(alice.username)
    reacted(post, bob)
    with alice.live() as live:
        told = Told(stack, alice, live)
        told.since()
        both = listed(alice).keys()
        mute(alice, bob)
        assert sorted(data["id"] for _, data in told.since()) == sorted(both)
        bob.delete(f"/v1/posts/{post}/reaction")
        bob.delete(f"/v1/users/{alice.username}/follow")
        block(bob, alice)
        unblock(bob, alice)
        assert told.since() == []


class Walk:
    """What two fans and a host do that hides and shows what its owner is told of, one random thing after the other."""

    def __init__(self, stack: Stack, owner: Person, fans: list[Person], host: Person, chance: random.Random) -> None:
        self.stack, self.owner, self.fans, self.chance = stack, owner, fans, chance
        self.moderator = make_moderator(stack)
        self.suspended: list[Person] = []
        self.hosted = host.post_photo()["id"]
        said = f"/v1/posts/{self.hosted}/comments"
        comment, post = owner.post(said, {"text": "First"})["id"], owner.post_photo()["id"]
        self.switches = [(one, f"/v1/users/{other.username}/block") for one, other in self.pairs([*fans, host])]
        for fan in fans:
            reaction, follow = f"/v1/posts/{post}/reaction", f"/v1/users/{owner.username}/follow"
            self.switches += [(owner, f"/v1/users/{fan.username}/mute"), (fan, follow), (fan, reaction)]
            fan.follow(owner.username)
            reacted(post, fan)
            fan.post(f"/v1/comments/{comment}/replies", {"text": "Second"})
        fans[0].post(said, {"text": f"You, @{owner.username}"})

    def pairs(self, others: list[Person]) -> list[tuple[Person, Person]]:
        return [pair for other in others for pair in ((self.owner, other), (other, self.owner))]

    def step(self) -> str:
        """Something is done, or undone, if it can be; what it was."""
        if self.chance.random() < 0.25:
            fan = self.chance.choice(self.fans)
            if fan in self.suspended:
                assert moderation.unsuspend(fan.username)
                fan.sign_in(fan.username, PASSWORD)
                self.suspended.remove(fan)
                return f"{fan.username} is back"
            suspend(self.stack, fan, self.moderator)
            self.suspended.append(fan)
            return f"{fan.username} is suspended"
        who, path = self.chance.choice(self.switches)
        method = self.chance.choice(["PUT", "DELETE"])
        body = {"emoji": "🌻"} if method == "PUT" and path.endswith("reaction") else None
        return f"{who.username} {method} {path} {who.ask(method, path, body).status_code}"


def heard(before: Groups, events: list[tuple[str, Any]], steps: int) -> Groups:
    """What a client has that had `before`; of what it reads anew nothing. After one step, each event is news."""
    has, one = dict(before), steps == 1
    for name, data in events:
        if name == "resync":
            has, one = {}, False
        elif name == "notification.revoked":
            assert has.pop(data["id"], None) is not None or not one
        elif name == "notification.created":
            assert not one or data["id"] not in has or look(has[data["id"]]) != look(data)
            has[data["id"]] = data
    return has


def look(group: dict[str, Any]) -> tuple[int, int, set[str]]:
    return group["actor_count"], group["at"], names(group)


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_is_hidden_and_shown_a_client_has_nothing_that_is_hidden(
    stack: Stack, alice: Person, bob: Person, person: Callable[[], Person], seed: int
) -> None:
    chance = random.Random(seed)
    walk = Walk(stack, alice, [bob, person()], person(), chance)
    with alice.live() as live:
        told = Told(stack, alice, live)
        told.since()
        before = listed(alice)
        assert len(before) == 4
        for _ in range(12):
            done = [walk.step() for _ in range(chance.choice([1, 1, 3]))]
            events = told.all_since()
            now, has = listed(alice), heard(before, events, len(done))
            for id, group in has.items():
                assert id in now, (done, events)
                # What shows again is in the list, and not told.
                shows_more = group["actor_count"] < now[id]["actor_count"] and names(group) <= names(now[id])
                assert look(group) == look(now[id]) or shows_more, (done, events, now[id])
            before = now
