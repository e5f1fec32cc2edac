"""What is one's own can be taken back, also where what it was done to is hidden from oneself by now."""

from collections.abc import Callable
from typing import Any

import pytest

from infra.leaks import plant
from infra.local.stack import Stack
from shared.moderation import actions as moderation
from tests.client import Person, standing_still, wait_until
from tests.comments.thread import block, comment, comments, read, reply, status

Problem = Callable[..., dict[str, Any]]
EMOJI = {"emoji": "🦊"}
ACTS = {"reaction": EMOJI, "save": None, "repost": None}
UNTOUCHED = {"reaction": None, "saved": False, "reposted": False}
UNCOUNTED = {"reactions": 0, "comments": 0, "reposts": 0, "saves": 0}


class Hiding:
    """How alice, and all of hers, comes to be hidden from bob, and is shown again."""

    def __init__(self, stack: Stack, how: str, alice: Person, bob: Person) -> None:
        self.stack, self.how = stack, how
        self.alice, self.pair = alice, (bob, alice) if how == "blocked" else (alice, bob)

    def begin(self) -> None:
        if self.how == "suspended":
            plant.suspend(self.stack, self.alice)
        else:
            block(*self.pair)

    def end(self) -> None:
        if self.how == "suspended":
            moderation.unsuspend(self.alice.username)
        else:
            block(*self.pair, undo=True)


@pytest.fixture(params=["blocked", "blocking", "suspended"])
def hiding(stack: Stack, request: pytest.FixtureRequest, alice: Person, bob: Person) -> Hiding:
    return Hiding(stack, request.param, alice, bob)


def test_what_was_done_with_a_post_and_a_comment(
    alice: Person, bob: Person, hiding: Hiding, stack: Stack, problem: Problem
) -> None:
    post = alice.post_photo("Soon hidden")
    path, made = f"/v1/posts/{post['id']}", comment(alice, post)
    for act, body in ACTS.items():
        bob.put(f"{path}/{act}", body)
    bob.put(f"/v1/comments/{made['id']}/reaction", EMOJI)
    wait_until(lambda: {one["type"] for one in alice.get("/v1/notifications")["items"]} == {"reaction", "repost"})
    hiding.begin()
    with standing_still(stack, "background", "relay"):
        for _ in range(2):  # nothing tells whether there was anything to take back
            for act in ACTS:
                problem(bob.ask("DELETE", f"{path}/{act}"), 404, "post_not_found")
            problem(bob.ask("DELETE", f"/v1/comments/{made['id']}/reaction"), 404, "comment_not_found")
        for act, body in ACTS.items():
            problem(bob.ask("PUT", f"{path}/{act}", body), 404, "post_not_found")
        problem(bob.ask("PUT", f"/v1/comments/{made['id']}/reaction", EMOJI), 404, "comment_not_found")
        hiding.end()
        shown = bob.get(path)
        assert (shown["viewer"], shown["reactions"]) == (UNTOUCHED, {})
        assert shown["counts"] == UNCOUNTED | {"comments": 1}
        assert (read(bob, made)["viewer"], read(bob, made)["reactions"]) == ({"reaction": None}, {})
        assert [bob.get(f"/v1/me/{kept}")["items"] for kept in ("saved", "reacted")] == [[], []]
        assert bob.get(f"{path}/reposts")["items"] == bob.get(f"{path}/reactions")["items"] == []
        assert [one["id"] for one in bob.get("/v1/feed")["items"]] == []
    if hiding.how != "suspended":  # whose session ended
        wait_until(lambda: alice.get("/v1/notifications")["items"] == [])


def test_what_was_said(alice: Person, bob: Person, hiding: Hiding, person: Callable[[], Person]) -> None:
    carol, post = person(), alice.post_photo("Soon hidden")
    said, answered = comment(bob, post), comment(carol, post)
    below = reply(carol, answered)
    under_alice = reply(bob, comment(alice, post))
    hiding.begin()
    for one in (said, under_alice):
        assert status(bob, one) == status(bob, one, "PATCH") == 404
        assert status(bob, one, "DELETE") == 204
        assert status(bob, one, "DELETE") == 404
    # What others said is as absent for bob as before.
    assert status(bob, below, "DELETE") == 404
    hiding.end()
    assert [status(bob, one) for one in (said, under_alice)] == [404, 404]
    assert bob.get(f"/v1/posts/{post['id']}")["counts"]["comments"] == 3


@pytest.mark.parametrize("how", ["blocked", "blocking", "suspended"])
def test_an_owner_deletes_what_somebody_hidden_said(stack: Stack, alice: Person, bob: Person, how: str) -> None:
    post = alice.post_photo("Mine")
    said = comment(bob, post)
    Hiding(stack, how, bob, alice).begin()
    assert status(alice, said) == 404
    assert status(alice, said, "DELETE") == 204
    assert comments(alice, post) == []
    assert alice.get(f"/v1/posts/{post['id']}")["counts"]["comments"] == 0


def test_a_follow_a_mute_and_a_block_of_one_who_is_suspended(
    stack: Stack, person: Callable[[], Person], alice: Person, problem: Problem
) -> None:
    users = {relation: person() for relation in ("follow", "mute", "block")}
    for relation, user in users.items():
        alice.put(f"/v1/users/{user.username}/{relation}")
    for user in users.values():
        plant.suspend(stack, user)
    with standing_still(stack, "background", "relay"):
        for relation, user in users.items():
            for method in ("PUT", "DELETE", "DELETE"):
                problem(alice.ask(method, f"/v1/users/{user.username}/{relation}"), 404, "user_not_found")
        assert alice.get("/v1/me")["counts"]["following"] == 0
        for user in users.values():
            moderation.unsuspend(user.username)
            shown = alice.get(f"/v1/users/{user.username}")
            assert not any(shown["viewer"].values())
            assert shown["counts"]["followers"] == 0
        assert [alice.get(f"/v1/me/{which}")["items"] for which in ("blocked", "muted")] == [[], []]


def test_nothing_new_is_done_to_one_who_is_suspended(
    stack: Stack, person: Callable[[], Person], alice: Person, problem: Problem
) -> None:
    bob = person()
    plant.suspend(stack, bob)
    for relation in ("follow", "mute", "block"):
        problem(alice.ask("PUT", f"/v1/users/{bob.username}/{relation}"), 404, "user_not_found")
    moderation.unsuspend(bob.username)
    assert not any(alice.get(f"/v1/users/{bob.username}")["viewer"].values())


@pytest.mark.parametrize("blocker", [0, 1])
def test_a_mute_across_a_block(alice: Person, bob: Person, problem: Problem, blocker: int) -> None:
    alice.put(f"/v1/users/{bob.username}/mute")
    pair = (alice, bob)
    block(pair[blocker], pair[1 - blocker])
    problem(alice.ask("DELETE", f"/v1/users/{bob.username}/mute"), 404, "user_not_found")
    block(pair[blocker], pair[1 - blocker], undo=True)
    assert not any(alice.get(f"/v1/users/{bob.username}")["viewer"].values())
