"""Blocks and mutes: who is hidden from whom, everywhere and at once, and what stays when it is taken back."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from infra.local.stack import Stack
from shared.kernel import db
from shared.profiles import reads as profiles
from shared.profiles.store import FollowStateRow
from tests.client import Format, Person, Visitor, decoded, sign_up, standing_still, wait_until
from tests.heard import wait_until_heard

Problem = Callable[..., dict[str, Any]]
ACROSS = db.Statement(
    """SELECT a.user_id, a.other_id, a.follow_id IS NOT NULL, a.version
         FROM relationships_between(:one, :two) a, relationships_between(:one, :two) b
        WHERE a.follow_id IS NOT NULL AND b.blocked_at IS NOT NULL""",
    FollowStateRow,
)
NOBODY = {"following": False, "followed_by": False, "blocking": False, "muting": False}


@pytest.fixture(params=["json", "msgpack"])
def ada(stack: Stack, request: pytest.FixtureRequest) -> Person:
    """Somebody, in each format."""
    format: Format = request.param
    return sign_up(stack, format=format)


def names(page: dict[str, Any]) -> list[str]:
    return [item["user"]["username"] for item in page["items"]]


def texts(person: Person) -> list[str]:
    return [post["description"] for post in person.get("/v1/feed")["items"]]


def block(one: Person, two: Person) -> Any:
    return one.put(f"/v1/users/{two.username}/block")


def test_a_block_hides_each_from_the_other_everywhere_at_once(
    stack: Stack, ada: Person, bob: Person, person: Callable[[], Person], problem: Problem
) -> None:
    carol = person()
    for one, two in ((ada, bob), (bob, ada), (carol, ada), (carol, bob), (ada, carol)):
        one.follow(two.username)
    posts = {one: one.post_photo(f"By {one.username} for @{two.username}") for one, two in ((ada, bob), (bob, ada))}
    wait_until(lambda: len(texts(ada)) == len(texts(bob)) == 2)
    for one in (ada, bob):
        wait_until(lambda one=one: len(one.get("/v1/notifications")["items"]) == 2)
        # Asked before, so that Redis holds what the block makes stale.
        assert set(names(one.get(f"/v1/users/{ada.username}/followers"))) == {bob.username, carol.username}
        assert names(one.get(f"/v1/users/{carol.username}/following")) == [bob.username, ada.username]
    with standing_still(stack, "background", "relay"):
        shown = block(ada, bob)
        assert shown["viewer"] == NOBODY | {"blocking": True}
        assert shown["counts"] == {"posts": 1, "followers": 1, "following": 0}
        assert block(ada, bob) == shown
        for viewer, hidden in ((ada, bob), (bob, ada)):
            for path in ("", "/posts", "/followers", "/following"):
                problem(viewer.ask("GET", f"/v1/users/{hidden.username}{path}"), 404, "user_not_found")
            problem(viewer.ask("GET", f"/v1/posts/{posts[hidden]['id']}"), 404, "post_not_found")
            problem(viewer.ask("PUT", f"/v1/users/{hidden.username}/follow"), 404, "user_not_found")
            problem(viewer.ask("PUT", f"/v1/users/{hidden.username}/mute"), 404, "user_not_found")
            assert texts(viewer) == [posts[viewer]["description"]]
            assert hidden.username not in str(viewer.get("/v1/notifications")["items"])
            assert names(viewer.get(f"/v1/users/{carol.username}/following")) == [viewer.username]
        # Who is blocked can block as well, and take it back; no answer tells that there is somebody.
        for method in ("PUT", "DELETE"):
            problem(bob.ask(method, f"/v1/users/{ada.username}/block"), 404, "user_not_found")
        assert ada.get("/v1/me")["counts"] == {"posts": 1, "followers": 1, "following": 1}
        assert bob.get("/v1/me")["counts"] == {"posts": 1, "followers": 1, "following": 0}
        # To everybody else nothing is hidden, but the follows are gone.
        assert names(carol.get(f"/v1/users/{ada.username}/followers")) == [carol.username]
        assert names(carol.get(f"/v1/users/{bob.username}/following")) == []
        assert carol.get(f"/v1/posts/{posts[ada]['id']}")["author"]["username"] == ada.username
        assert names(ada.get("/v1/me/blocked")) == [bob.username]
        assert ada.get("/v1/me/blocked")["items"][0]["viewer"] == NOBODY | {"blocking": True}
        assert names(bob.get("/v1/me/blocked")) == []

        back = ada.delete(f"/v1/users/{bob.username}/block")
        assert back["viewer"] == NOBODY
        assert ada.delete(f"/v1/users/{bob.username}/block") == back == ada.get(f"/v1/users/{bob.username}")
        assert bob.get(f"/v1/users/{ada.username}")["viewer"] == NOBODY
        assert names(ada.get("/v1/me/blocked")) == []
        assert texts(ada) == [posts[ada]["description"]]
        assert ada.follow(bob.username)["viewer"]["following"] is True
        assert set(texts(ada)) == {post["description"] for post in posts.values()}
    wait_until(lambda: bob.get("/v1/notifications")["items"])
    assert set(texts(ada)) == {post["description"] for post in posts.values()}
    assert names(carol.get(f"/v1/users/{bob.username}/followers")) == [ada.username, carol.username]


def test_nothing_is_told_live_across_a_block(ada: Person, bob: Person, person: Callable[[], Person]) -> None:
    carol = person()
    for follower in (ada, carol):
        follower.follow(bob.username)
    block(ada, bob)
    with ada.live() as hidden, carol.live() as live:
        post = bob.post_photo(f"For @{ada.username} and @{carol.username}")
        assert live.event("feed.post_created")["data"]["id"] == post["id"]
        assert live.event("notification.created")["data"]["subject"]["id"] == post["id"]
        assert [event["event"] for event in hidden.drain() if event["event"] != "resync"] == []
    assert post["mentions"] == [carol.username]


def test_a_mute_is_known_to_one_alone(stack: Stack, ada: Person, bob: Person) -> None:
    ada.follow(bob.username)
    with ada.live() as live:
        bob.post_photo("Before")
        live.event("feed.post_created")
    with standing_still(stack, "background", "relay"):
        shown = ada.put(f"/v1/users/{bob.username}/mute")
        assert shown["viewer"] == NOBODY | {"following": True, "muting": True}
        assert ada.put(f"/v1/users/{bob.username}/mute") == shown == ada.get(f"/v1/users/{bob.username}")
        assert texts(ada) == []
        assert names(ada.get("/v1/me/muted")) == [bob.username]
        assert ada.get("/v1/me/muted")["items"][0]["viewer"] == shown["viewer"]
        assert names(bob.get(f"/v1/users/{bob.username}/followers")) == [ada.username]
        assert bob.get(f"/v1/users/{ada.username}")["viewer"] == NOBODY | {"followed_by": True}
        assert bob.get("/v1/me/muted")["items"] == []
    assert ada.get("/v1/me")["unread"]["notifications"] == 0
    with standing_still(stack, "background", "relay"):
        assert ada.delete(f"/v1/users/{bob.username}/mute")["viewer"]["muting"] is False
        assert texts(ada) == ["Before"]
        assert ada.get("/v1/me/muted")["items"] == []
    assert ada.delete(f"/v1/users/{bob.username}/mute") == ada.get(f"/v1/users/{bob.username}")


def test_who_is_muted_is_not_heard_of_and_all_is_there_afterwards(
    ada: Person, bob: Person, person: Callable[[], Person]
) -> None:
    carol = person()
    for follower in (ada, carol):
        follower.follow(bob.username)
        # Read, so that Redis has a feed that the post could be put into.
        assert texts(follower) == []
    ada.put(f"/v1/users/{bob.username}/mute")
    with ada.live() as muting, carol.live() as live:
        post = bob.post_photo(f"For @{ada.username} and @{carol.username}")
        # Both would be told by one delivery.
        live.event("feed.post_created")
        live.event("notification.created")
        assert [event["event"] for event in muting.drain() if event["event"] != "resync"] == []
    assert texts(ada) == ada.get("/v1/notifications")["items"] == []
    assert ada.get(f"/v1/posts/{post['id']}")["description"] == post["description"]
    ada.delete(f"/v1/users/{bob.username}/mute")
    assert texts(ada) == [post["description"]]


@pytest.mark.parametrize("what", ["block", "mute"])
def test_one_s_own_devices_read_anew_and_the_other_s_hear_nothing(
    stack: Stack, alice: Person, bob: Person, what: str
) -> None:
    with alice.live() as own, bob.live() as other:
        alice.put(f"/v1/users/{bob.username}/{what}")
        first = own.event("resync")["seq"]
        alice.delete(f"/v1/users/{bob.username}/{what}")
        wait_until_heard(stack)
        assert [event["event"] for event in own.drain()] == ["resync"] * 2
        assert other.drain() == []
    with alice.live() as late:
        assert late.act("resume", {"after": first})["data"]["resync"] is False
        assert [event["event"] for event in late.events] == ["resync"]


def test_a_mute_outlives_a_block(alice: Person, bob: Person, problem: Problem) -> None:
    alice.put(f"/v1/users/{bob.username}/mute")
    block(alice, bob)
    assert names(alice.get("/v1/me/muted")) == []
    assert alice.delete(f"/v1/users/{bob.username}/block")["viewer"] == NOBODY | {"muting": True}
    assert names(alice.get("/v1/me/muted")) == [bob.username]


def test_who_is_blocked_blocks_back_and_it_stands_when_the_first_block_ends(
    stack: Stack, ada: Person, bob: Person, problem: Problem
) -> None:
    to_ada, to_bob = (f"/v1/users/{one.username}" for one in (ada, bob))
    seen = ada.get(to_bob)
    bob.follow(ada.username)
    with standing_still(stack, "background", "relay"):
        block(ada, bob)
        for _ in range(2):
            problem(bob.ask("PUT", f"{to_ada}/block"), 404, "user_not_found")
        # No list of his says more than that answer; and for her he is as one who is gone.
        assert names(bob.get("/v1/me/blocked")) == names(ada.get("/v1/me/blocked")) == []
        problem(ada.ask("DELETE", f"{to_bob}/block"), 404, "user_not_found")
        for viewer, hidden in ((ada, to_bob), (bob, to_ada)):
            problem(viewer.ask("GET", hidden), 404, "user_not_found")
            problem(viewer.ask("PUT", f"{hidden}/follow"), 404, "user_not_found")
        assert names(bob.get("/v1/me/blocked")) == [ada.username]
        assert bob.delete(f"{to_ada}/block")["viewer"] == NOBODY
        assert ada.get(to_bob) == seen
        assert names(bob.get("/v1/me/blocked")) == []


@pytest.mark.parametrize("what", ["block", "mute"])
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_yourself_nobody_and_visitors(
    alice: Person, visitor: Visitor, problem: Problem, what: str, method: str
) -> None:
    told = problem(alice.ask(method, f"/v1/users/{alice.username.upper()}/{what}"), 422, "invalid")
    assert [(error["field"], error["code"]) for error in told["errors"]] == [("username", "yourself")]
    problem(alice.ask(method, f"/v1/users/nobody_of_this_name/{what}"), 404, "user_not_found")
    problem(visitor.ask(method, f"/v1/users/{alice.username}/{what}"), 401, "not_signed_in")
    problem(visitor.ask("GET", "/v1/me/blocked"), 401, "not_signed_in")
    problem(visitor.ask("GET", "/v1/me/muted"), 401, "not_signed_in")


def test_what_never_was_is_taken_back_all_the_same(alice: Person, bob: Person) -> None:
    seen = alice.get(f"/v1/users/{bob.username}")
    assert alice.delete(f"/v1/users/{bob.username}/block") == seen
    assert alice.delete(f"/v1/users/{bob.username}/mute") == seen


class TestAtOnce:
    """Twenty at once, both ways."""

    def counts(self, *people: Person) -> list[tuple[int, int]]:
        found = [one.get("/v1/me")["counts"] for one in people]
        return [(count["followers"], count["following"]) for count in found]

    def across(self, one: Person, two: Person) -> list[FollowStateRow]:
        found = profiles.named([one.username, two.username])
        with db.connection() as conn:
            return ACROSS.all(conn, one=found[one.username], two=found[two.username])

    @pytest.mark.parametrize("turn", range(3))
    def test_no_follow_across_a_block(self, person: Callable[[], Person], turn: int) -> None:
        with ThreadPoolExecutor(20) as threads:
            one, two = threads.map(lambda _: person(), range(2))
            acts = [(one, two, "PUT", "follow"), (two, one, "PUT", "follow"), (one, two, "PUT", "block")]
            acts += [(two, one, "PUT", "block"), (one, two, "DELETE", "block")] if turn else []
            for _ in range(3):
                answers = list(
                    threads.map(lambda act: act[0].ask(act[2], f"/v1/users/{act[1].username}/{act[3]}"), acts * 4)
                )
                assert {answer.status_code for answer in answers} <= {200, 404}
                assert self.across(one, two) == []
                there = int(self.follows(one, two)), int(self.follows(two, one))
                assert self.counts(one, two) == [(there[1], there[0]), there]
                for blocker, other in ((one, two), (two, one)):
                    blocker.ask("DELETE", f"/v1/users/{other.username}/block")

    def follows(self, one: Person, two: Person) -> bool:
        found = profiles.named([one.username, two.username])
        return any(state.following for state in profiles.follows_among([(found[one.username], found[two.username])]))

    def test_of_two_who_block_each_other_one_is_answered(self, person: Callable[[], Person], problem: Problem) -> None:
        with ThreadPoolExecutor(20) as threads:
            one, two = threads.map(lambda _: person(), range(2))
            acts = [(one, two), (two, one)] * 10
            answers = list(threads.map(lambda act: act[0].ask("PUT", f"/v1/users/{act[1].username}/block"), acts))
            won = {act[0] for act, answer in zip(acts, answers, strict=True) if answer.status_code == 200}
            assert len(won) == 1
            (blocker,) = won
            other = two if blocker is one else one
            lost = [answer.status_code for act, answer in zip(acts, answers, strict=True) if act[0] is other]
            assert lost == [404] * 10
            problem(blocker.ask("DELETE", f"/v1/users/{other.username}/block"), 404, "user_not_found")
            assert names(blocker.get("/v1/me/blocked")) == []
            assert names(other.get("/v1/me/blocked")) == [blocker.username]
            assert other.delete(f"/v1/users/{blocker.username}/block")["viewer"] == NOBODY

    def test_everyone_blocks_one_who_is_followed(self, person: Callable[[], Person]) -> None:
        with ThreadPoolExecutor(20) as threads:
            celebrity, *fans = threads.map(lambda _: person(), range(9))
            list(threads.map(lambda fan: fan.follow(celebrity.username), fans))
            list(threads.map(lambda fan: celebrity.follow(fan.username), fans))
            assert self.counts(celebrity) == [(8, 8)]
            answers = list(threads.map(lambda fan: fan.ask("PUT", f"/v1/users/{celebrity.username}/block"), fans * 2))
        assert all(decoded(answer)["viewer"] == NOBODY | {"blocking": True} for answer in answers)
        assert self.counts(celebrity, *fans) == [(0, 0)] * 9
        assert names(celebrity.get(f"/v1/users/{celebrity.username}/followers")) == []
