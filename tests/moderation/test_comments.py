"""Comments are reported by who sees them, and removed whoever is hidden from whom."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from shared.kernel import ids
from tests.client import Person, wait_until
from tests.comments.thread import block, comment, comments, reply, status, tombstone
from tests.moderation.accounts import id_of, logged, promoted, reported

Problem = Callable[[httpx.Response, int, str], dict[str, Any]]


@pytest.fixture
def moderator(person: Callable[[], Person]) -> Person:
    return promoted(person())


def remove(moderator: Person, report: dict[str, Any]) -> dict[str, Any]:
    return moderator.post(f"/v1/reports/{report['id']}/resolution", {"action": "remove"})


def test_a_comment_is_removed_and_what_was_told_of_it_taken_back(
    alice: Person, bob: Person, person: Callable[[], Person], moderator: Person
) -> None:
    reporter = person()
    post = alice.post_photo("Say something")
    said = comment(bob, post, "Something bad")
    wait_until(lambda: alice.get("/v1/notifications")["items"])
    report = reported(reporter, "comment", said["id"], "hate")
    assert report["subject"] == {"type": "comment", "id": said["id"]}
    assert remove(moderator, report)["owner"] == bob.username
    for viewer in (alice, bob, reporter):
        assert status(viewer, said) == 404
    assert comments(alice, post) == []
    assert alice.get(f"/v1/posts/{post['id']}")["counts"]["comments"] == 0
    wait_until(lambda: not alice.get("/v1/notifications")["items"])
    (entry,) = logged(ids.decode(said["id"]))
    assert (entry.action, entry.subject_type, entry.moderator_id) == ("remove", "comment", id_of(moderator))


def test_one_with_replies_leaves_a_tombstone(
    alice: Person, bob: Person, person: Callable[[], Person], moderator: Person
) -> None:
    post = alice.post_photo("Say something")
    said = comment(bob, post, "Something bad")
    reply(alice, said, "Why?")
    remove(moderator, reported(person(), "comment", said["id"]))
    (left,) = comments(bob, post)
    assert left == tombstone(said | {"counts": left["counts"]}, left)


@pytest.mark.parametrize("blocker", [0, 1])
def test_a_block_between_author_and_owner_of_the_post_keeps_no_moderator_off(
    alice: Person, bob: Person, person: Callable[[], Person], moderator: Person, blocker: int
) -> None:
    reporter = person()
    post = alice.post_photo("Say something")
    said = comment(bob, post, "Something bad")
    report = reported(reporter, "comment", said["id"])
    block(*((alice, bob), (bob, alice))[blocker])
    remove(moderator, report)
    assert status(reporter, said) == 404
    assert reporter.get(f"/v1/posts/{post['id']}")["counts"]["comments"] == 0


def test_what_cant_be_seen_of_a_thread_cant_be_reported(
    alice: Person, bob: Person, person: Callable[[], Person], problem: Problem
) -> None:
    reporter = person()
    post = alice.post_photo("Say something")
    said, more = comment(bob, post), comment(bob, post)
    bob.delete(f"/v1/comments/{more['id']}")

    def refused(one: dict[str, Any]) -> None:
        body = {"subject": {"type": "comment", "id": one["id"]}, "reason": "spam"}
        problem(reporter.ask("POST", "/v1/reports", body), 404, "subject_not_found")

    refused(more)
    block(alice, reporter)
    refused(said)
    body = {"subject": {"type": "comment", "id": said["id"]}, "reason": "spam"}
    problem(bob.ask("POST", "/v1/reports", body), 422, "invalid")
