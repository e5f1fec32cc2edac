"""Reacting to posts and saving them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.client import Format, Person, Visitor, decoded, trips, wait_until

Problem = Callable[[httpx.Response, int, str], dict[str, Any]]
UNTOUCHED = {"reaction": None, "saved": False, "reposted": False}
ABSENT = "0" * 13


@pytest.fixture
def post(alice: Person) -> dict[str, Any]:
    return alice.post_photo("React to me")


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_a_reaction_is_counted_shown_to_all_and_taken_back(
    alice: Person, bob: Person, visitor: Visitor, post: dict[str, Any], format: Format
) -> None:
    bob, path = bob.speaking(format), f"/v1/posts/{post['id']}"
    reacted = bob.put(f"{path}/reaction", {"emoji": "👍"})
    assert reacted == post | {
        "counts": post["counts"] | {"reactions": 1},
        "reactions": {"👍": 1},
        "viewer": UNTOUCHED | {"reaction": "👍"},
    }
    assert bob.get(path) == reacted
    assert alice.get(path) == reacted | {"viewer": UNTOUCHED}
    assert visitor.get(path) == reacted | {"viewer": None}
    assert bob.get(f"/v1/users/{alice.username}/posts")["items"] == [reacted]
    assert bob.delete(f"{path}/reaction") == post
    assert bob.get(path) == alice.get(path) == post


def test_reacting_again_replaces_the_emoji(alice: Person, bob: Person, post: dict[str, Any]) -> None:
    path = f"/v1/posts/{post['id']}/reaction"
    alice.put(path, {"emoji": "❤️"})
    bob.put(path, {"emoji": "👍"})
    assert bob.put(path, {"emoji": "❤"})["reactions"] == {"❤️": 2}
    again = bob.put(path, {"emoji": "❤️"})
    assert (again["reactions"], again["counts"]["reactions"]) == ({"❤️": 2}, 2)
    assert alice.delete(path)["reactions"] == {"❤️": 1}


def test_saving_is_ones_own_and_all_three_stand_side_by_side(alice: Person, bob: Person, post: dict[str, Any]) -> None:
    path = f"/v1/posts/{post['id']}"
    bob.put(f"{path}/save")
    bob.put(f"{path}/reaction", {"emoji": "🎉"})
    all_done = bob.put(f"{path}/repost")
    assert all_done["viewer"] == {"reaction": "🎉", "saved": True, "reposted": True}
    assert all_done["counts"] == {"reactions": 1, "comments": 0, "reposts": 1, "saves": 1}
    assert alice.get(path)["viewer"] == UNTOUCHED
    assert bob.delete(f"{path}/reaction")["viewer"] == {"reaction": None, "saved": True, "reposted": True}
    assert bob.delete(f"{path}/save")["counts"] == {"reactions": 0, "comments": 0, "reposts": 1, "saves": 0}
    assert bob.delete(f"{path}/repost") == post


@pytest.mark.parametrize("part", ["reaction", "save", "repost"])
def test_doing_and_undoing_twice_is_as_once(bob: Person, post: dict[str, Any], part: str) -> None:
    path = f"/v1/posts/{post['id']}/{part}"
    body = {"emoji": "🦊"} if part == "reaction" else None
    assert bob.put(path, body) == bob.put(path, body)
    assert bob.delete(path) == bob.delete(path) == post


@pytest.mark.parametrize("part", ["reaction", "save", "repost"])
def test_a_tap_that_comes_twice_is_answered_as_one(bob: Person, post: dict[str, Any], part: str) -> None:
    path = f"/v1/posts/{post['id']}/{part}"
    count = {"reaction": "reactions", "save": "saves", "repost": "reposts"}[part]
    body = {"emoji": "🦊"} if part == "reaction" else None
    with ThreadPoolExecutor(2) as threads:
        for _ in range(10):
            for method, number in (("PUT", 1), ("DELETE", 0)):
                act = (method, path, body if method == "PUT" else None)
                answers = [decoded(answer) for answer in threads.map(lambda _, act=act: bob.ask(*act), range(2))]
                assert answers[0]["viewer"] == answers[1]["viewer"]
                assert [answer["counts"][count] for answer in answers] == [number] * 2
                assert bob.get(f"/v1/posts/{post['id']}")["viewer"] == answers[0]["viewer"]


@pytest.mark.parametrize("act", [("PUT", "reaction"), ("DELETE", "reaction"), ("PUT", "save"), ("PUT", "repost")])
def test_what_is_not_there_is_not_found(
    alice: Person, bob: Person, post: dict[str, Any], problem: Problem, act: tuple[str, str]
) -> None:
    method, part = act
    body = {"emoji": "👍"} if act == ("PUT", "reaction") else None
    problem(bob.ask(method, f"/v1/posts/{ABSENT}/{part}", body), 404, "post_not_found")
    alice.delete(f"/v1/posts/{post['id']}")
    problem(bob.ask(method, f"/v1/posts/{post['id']}/{part}", body), 404, "post_not_found")
    assert bob.get("/v1/feed")["items"] == []


def test_visitors_cannot_react(visitor: Visitor, post: dict[str, Any], problem: Problem) -> None:
    problem(visitor.ask("PUT", f"/v1/posts/{post['id']}/reaction", {"emoji": "👍"}), 401, "not_signed_in")


def test_faults_are_named_and_nothing_is_changed(bob: Person, post: dict[str, Any], problem: Problem) -> None:
    path = f"/v1/posts/{post['id']}/reaction"
    found = problem(bob.ask("PUT", path, {"emoji": "ok", "more": 1}), 422, "invalid")
    assert {fault["field"]: fault["code"] for fault in found["errors"]} == {
        "emoji": "not_an_emoji",
        "more": "unknown_field",
    }
    assert bob.get(f"/v1/posts/{post['id']}") == post


@pytest.mark.parametrize("part", ["reaction", "save", "repost"])
def test_a_hot_write_is_one_round_trip_to_postgres(bob: Person, post: dict[str, Any], part: str) -> None:
    path = f"/v1/posts/{post['id']}/{part}"
    body = {"emoji": "🦊"} if part == "reaction" else None
    for method, sent in (("PUT", body), ("PUT", body), ("DELETE", None), ("DELETE", None)):
        answer = bob.ask(method, path, sent)
        assert answer.status_code == 200
        assert (trips(answer, "postgres"), trips(answer, "redis")) == (1, 2)


def test_warm_reads_are_two_round_trips_to_redis_or_one(alice: Person, bob: Person, post: dict[str, Any]) -> None:
    bob.follow(alice.username)
    bob.put(f"/v1/posts/{post['id']}/reaction", {"emoji": "🦊"})
    bob.put(f"/v1/posts/{post['id']}/repost")
    for path, count in ((f"/v1/posts/{post['id']}", 1), ("/v1/feed", 2), (f"/v1/users/{alice.username}/posts", 2)):
        wait_until(lambda path=path: trips(bob.ask("GET", path), "postgres") == 0)
        answer = bob.ask("GET", path)
        assert (trips(answer, "redis"), trips(answer, "postgres")) == (count, 0)


def told(person: Person) -> dict[str, tuple[int, bool]]:
    """Type of notification → how many acted, whether it is unread."""
    items = person.get("/v1/notifications")["items"]
    return {item["type"]: (item["actor_count"], item["unread"]) for item in items}


def test_the_author_is_told_once_and_it_is_taken_back(
    alice: Person, bob: Person, person: Callable[[], Person], post: dict[str, Any]
) -> None:
    carol, path = person(), f"/v1/posts/{post['id']}"
    for someone in (alice, bob, carol):
        someone.put(f"{path}/reaction", {"emoji": "👍"})
        someone.put(f"{path}/save")
    bob.put(f"{path}/repost")
    wait_until(lambda: told(alice) == {"reaction": (2, True), "repost": (1, True)})
    noted = {item["type"]: item for item in alice.get("/v1/notifications")["items"]}
    assert noted["reaction"]["subject"] == {"type": "post", "id": post["id"]}
    assert [actor["username"] for actor in noted["reaction"]["actors"]] == [carol.username, bob.username]

    alice.put("/v1/notifications/read")
    bob.put(f"{path}/reaction", {"emoji": "🦊"})
    bob.delete(f"{path}/save")
    bob.delete(f"{path}/repost")
    wait_until(lambda: told(alice) == {"reaction": (2, False)})
    bob.delete(f"{path}/reaction")
    carol.delete(f"{path}/reaction")
    wait_until(lambda: told(alice) == {})
