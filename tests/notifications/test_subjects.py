"""A notification is there as long as its owner may see what it is about, whoever acted on that."""

from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest

from infra.leaks.plant import block, delete, suspend
from infra.local.stack import Stack
from shared.kernel import db, ids
from shared.moderation import actions as moderation
from shared.notifications import actions
from shared.notifications.model import Act
from shared.profiles import reads as profiles
from tests.client import Live, Person, standing_still, wait_until
from tests.heard import wait_until_heard

Problem = Callable[[httpx.Response, int, str], dict[str, Any]]
NOTIFICATIONS = "/v1/notifications"


class Thread:
    """A post, a comment of its reader's, and what somebody else did there that the reader was told of."""

    def __init__(self, author: Person, reader: Person, other: Person) -> None:
        self.author, self.reader, self.other = author, reader, other
        self.post: str = author.post_photo()["id"]
        self.comment = self.say(reader, "First")
        other.post(f"/v1/comments/{self.comment}/replies", {"text": "Second"})
        other.put(f"/v1/comments/{self.comment}/reaction", {"emoji": "🌻"})
        self.mention = self.say(other, f"Third, @{reader.username}")
        self.told = {("reply", self.comment), ("reaction", self.comment), ("mention", self.mention)}

    def say(self, person: Person, text: str) -> str:
        said: str = person.post(f"/v1/posts/{self.post}/comments", {"text": text})["id"]
        return said

    def delete_post(self) -> None:
        self.author.delete(f"/v1/posts/{self.post}")

    def delete_comments(self) -> None:
        for comment in (self.comment, self.mention):
            self.author.delete(f"/v1/comments/{comment}")


def listed(owner: Person) -> list[dict[str, Any]]:
    return owner.get(NOTIFICATIONS)["items"]


def about(groups: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(group["type"], group["subject"]["id"]) for group in groups}


def unread(owner: Person) -> int:
    count: int = owner.get("/v1/me")["unread"]["notifications"]
    return count


def of_name(live: Live, name: str) -> list[Any]:
    return [event["data"] for event in live.drain() if event["event"] == name]


def heard(live: Live, count: int) -> dict[str, dict[str, Any]]:
    """So many groups that were told live, by id."""
    wait_until(lambda: len({one["id"] for one in of_name(live, "notification.created")}) == count)
    return {one["id"]: one for one in of_name(live, "notification.created")}


class CountRow(msgspec.Struct, frozen=True):
    count: int


# In lists, or to be counted.
STANDING = db.Statement("SELECT count(*) FROM notifications WHERE user_id = :id AND latest_id IS NOT NULL", CountRow)


def standing(owner: Person) -> int:
    with db.connection() as conn:
        return STANDING.one(conn, id=profiles.named([owner.username])[owner.username]).count


HIDE: dict[str, Callable[[Stack, Thread], None]] = {
    "its author blocks the reader": lambda _, thread: block(thread.author, thread.reader),
    "the reader blocks its author": lambda _, thread: block(thread.reader, thread.author),
    "its author is suspended": lambda stack, thread: suspend(stack, thread.author),
    "its author leaves": lambda _, thread: delete(thread.author),
    "the post is deleted": lambda _, thread: thread.delete_post(),
    "the comments are deleted": lambda _, thread: thread.delete_comments(),
}
# What was told of these is never looked at again. An author who is back has all that is not erased.
GONE = {"its author leaves", "the post is deleted", "the comments are deleted"}


@pytest.mark.parametrize("how", HIDE)
def test_what_cannot_be_seen_any_more_is_listed_counted_and_marked_no_more_and_revoked_once(
    stack: Stack, alice: Person, bob: Person, person: Callable[[], Person], problem: Problem, how: str
) -> None:
    with bob.live() as live:
        thread, other = Thread(alice, bob, person()), Thread(person(), bob, person())
        told = heard(live, 6)
        assert about(listed(bob)) == about(list(told.values())) == thread.told | other.told
        assert unread(bob) == 6
        hidden = {id for id, one in told.items() if (one["type"], one["subject"]["id"]) in thread.told}
        if how == "its author is suspended":
            HIDE[how](stack, thread)  # which takes a mail
        else:
            with standing_still(stack, "background", "relay"):
                HIDE[how](stack, thread)
                assert about(listed(bob)) == other.told
                assert unread(bob) == 3
        problem(bob.ask("GET", f"/v1/comments/{thread.mention}"), 404, "comment_not_found")
        assert about(listed(bob)) == other.told
        assert about(list(bob.items(NOTIFICATIONS, limit=1))) == other.told
        assert unread(bob) == 3
        for id in hidden:
            problem(bob.ask("PUT", f"{NOTIFICATIONS}/{id}/read"), 404, "notification_not_found")
        wait_until_heard(stack)
        assert sorted(one["id"] for one in of_name(live, "notification.revoked")) == sorted(hidden)
        assert about(listed(bob)) == other.told
        assert len(of_name(live, "notification.created")) == len(told)
        assert standing(bob) == (3 if how in GONE else 6)


def test_what_can_be_seen_again_is_there_again_and_does_not_ring(
    stack: Stack, alice: Person, bob: Person, person: Callable[[], Person]
) -> None:
    with bob.live() as live:
        thread = Thread(alice, bob, person())
        told = heard(live, 3)
        block(alice, bob)
        wait_until(lambda: {one["id"] for one in of_name(live, "notification.revoked")} == told.keys())
        assert listed(bob) == []
        alice.delete(f"/v1/users/{bob.username}/block")
        assert about(listed(bob)) == thread.told
        suspend(stack, alice)
        assert listed(bob) == []
        assert moderation.unsuspend(alice.username)
        assert about(listed(bob)) == thread.told
        assert unread(bob) == 3
        assert len(of_name(live, "notification.created")) == 3


def test_the_author_of_what_is_deleted_is_told_that_its_notifications_are_gone(alice: Person, bob: Person) -> None:
    post = alice.post_photo()["id"]
    with alice.live() as live:
        bob.put(f"/v1/posts/{post}/reaction", {"emoji": "🌻"})
        bob.put(f"/v1/posts/{post}/repost")
        bob.post(f"/v1/posts/{post}/comments", {"text": "Yes"})
        told = heard(live, 3)
        alice.delete(f"/v1/posts/{post}")
        assert listed(alice) == []
        assert unread(alice) == 0
        wait_until(lambda: {one["id"] for one in of_name(live, "notification.revoked")} == told.keys())


def test_what_is_told_of_a_hidden_subject_is_told_to_nobody(
    alice: Person, bob: Person, person: Callable[[], Person]
) -> None:
    thread, other = Thread(alice, bob, person()), person()
    wait_until(lambda: about(listed(bob)) == thread.told)
    block(alice, bob)
    with bob.live() as live:
        other.put(f"/v1/comments/{thread.comment}/reaction", {"emoji": "🌻"})
        other.follow(bob.username)
        assert live.event("notification.created")["data"]["type"] == "follow"
        assert {group["type"] for group in listed(bob)} == {"follow"}


AGAIN: dict[str, tuple[Callable[[Stack, Person, Person], object], Callable[[Person, Person], object]]] = {
    "blocked": (
        lambda _, owner, other: block(owner, other),
        lambda owner, other: owner.delete(f"/v1/users/{other.username}/block"),
    ),
    "suspended": (
        lambda stack, _, other: suspend(stack, other),
        lambda _, other: moderation.unsuspend(other.username),
    ),
}


@pytest.mark.parametrize("how", AGAIN)
def test_what_is_hidden_again_is_revoked_again(stack: Stack, alice: Person, bob: Person, how: str) -> None:
    hide, show = AGAIN[how]
    post = alice.post_photo()["id"]
    with alice.live() as live:
        bob.put(f"/v1/posts/{post}/reaction", {"emoji": "🌻"})
        id = live.event("notification.created")["data"]["id"]
        for times in (1, 2, 3):
            hide(stack, alice, bob)
            wait_until_heard(stack)
            assert of_name(live, "notification.revoked") == [{"id": id}] * times
            show(alice, bob)
            wait_until_heard(stack)
            assert [one["id"] for one in listed(alice)] == [id]
        assert len(of_name(live, "notification.created")) == 1


def test_what_comes_late_of_what_is_deleted_brings_nothing_back(stack: Stack, alice: Person, person: Any) -> None:
    fans = [person() for _ in range(3)]
    post, found = alice.post_photo()["id"], profiles.named([one.username for one in (alice, *fans)])

    def reacts(fan: Person, version: int = 1, *, undone: bool = False) -> None:
        act_id = None if undone else ids.new_id()
        subject = f"post:{post}"
        actions.apply([Act(found[alice.username], "reaction", subject, found[fan.username], act_id, version)])

    with alice.live() as live:
        for fan in fans[:2]:
            reacts(fan)
        wait_until(lambda: listed(alice) and listed(alice)[0]["actor_count"] == 2)
        alice.delete(f"/v1/posts/{post}")
        for late in (lambda: None, lambda: reacts(fans[2]), lambda: reacts(fans[0], 2, undone=True)):
            late()
            wait_until_heard(stack)
            assert (standing(alice), unread(alice), listed(alice)) == (0, 0, [])
        assert live.drain()[-1]["event"] == "notification.revoked"
