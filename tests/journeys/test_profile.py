"""Editing one's profile: what is given changes, everywhere at once; what is wrong is named, and nothing changes."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from infra.local.stack import Stack
from infra.photos import make_photo
from tests.client import Format, Person, Visitor, sign_up, standing_still, wait_until

Problem = Callable[..., dict[str, Any]]
SIZES = ("small", "medium", "large")


@pytest.fixture(params=["json", "msgpack"])
def ada(stack: Stack, request: pytest.FixtureRequest) -> Person:
    """Somebody with a whole profile, in each format."""
    format: Format = request.param
    return sign_up(stack, format=format, bio="Counts.", birthday="1990-12-10")


def faults(document: dict[str, Any]) -> dict[str, str]:
    return {error["field"]: error["code"] for error in document["errors"]}


def upload_picture(person: Person, seed: int = 0) -> dict[str, str]:
    data = make_photo(seed).placeholder
    objects = person.upload([(size, "image/jpeg", data) for size in SIZES], "profile_picture")
    return dict(zip(SIZES, objects, strict=True))


def is_there(url: str) -> bool:
    return httpx.get(url, trust_env=False).status_code == 200


def test_what_is_given_changes_and_shows_everywhere_at_once(stack: Stack, ada: Person, bob: Person) -> None:
    bob.follow(ada.username)
    post = ada.post_photo("Mine")
    seen = bob.get(f"/v1/users/{ada.username}")
    wait_until(lambda: bob.get("/v1/feed")["items"])
    wait_until(lambda: ada.get("/v1/notifications")["items"])
    before = ada.get("/v1/me")
    links = ["https://example.com/ada?x=1#y", "http://müller.example:8080"]
    with standing_still(stack, "background", "relay"):
        changed = ada.ask("PATCH", "/v1/me", {"name": " Ada L. ", "links": links})
        assert changed.status_code == 200
        mine = ada.get("/v1/me")
        assert mine == before | {"user": before["user"] | {"name": "Ada L."}, "links": links}
        assert mine["bio"] == "Counts."
        assert mine["birthday"] == "1990-12-10"
        profile = bob.get(f"/v1/users/{ada.username}")
        assert profile == seen | {"user": mine["user"], "links": links}
        assert bob.get(f"/v1/posts/{post['id']}")["author"] == mine["user"]
        assert bob.get("/v1/feed")["items"][0]["author"] == mine["user"]

        ada.ask("PATCH", "/v1/me", {"bio": None, "birthday": None, "links": None})
        cleared = ada.get("/v1/me")
        assert (cleared["bio"], cleared["birthday"], cleared["links"]) == ("", None, [])
        assert cleared["user"]["name"] == "Ada L."
        assert bob.get(f"/v1/users/{ada.username}")["links"] == []
        ada.ask("PATCH", "/v1/me", {})
        assert ada.get("/v1/me") == cleared


def test_every_fault_is_named_and_nothing_changes(ada: Person, problem: Problem) -> None:
    before = ada.get("/v1/me")
    body = {"name": " ", "bio": "x" * 151, "birthday": "2999-01-01", "links": ["javascript:alert(1)"], "email": "a@b.c"}
    assert faults(problem(ada.ask("PATCH", "/v1/me", body), 422, "invalid")) == {
        "name": "blank",
        "bio": "invalid",
        "birthday": "impossible",
        "links[0]": "invalid_link",
        "email": "unknown_field",
    }
    assert faults(problem(ada.ask("PATCH", "/v1/me", {"name": None}), 422, "invalid")) == {"name": "wrong_type"}
    # One that is right changes nothing beside one that is wrong.
    refused = ada.ask("PATCH", "/v1/me", {"bio": "New", "links": ["https://ok.example", "ftp://no.example"]})
    assert faults(problem(refused, 422, "invalid")) == {"links[1]": "invalid_link"}
    assert ada.get("/v1/me") == before


@pytest.mark.parametrize(
    "link",
    [
        "",
        "example.com",
        "https://localhost",
        "https://user:secret@example.com",
        "https://example.com/a b",
        "https://exam\u202eple.com",
        "https://" + "a" * 200 + ".com",
        "data:text/html,x",
        "https://.example.com",
    ],
)
def test_what_is_no_link(alice: Person, problem: Problem, link: str) -> None:
    fields = faults(problem(alice.ask("PATCH", "/v1/me", {"links": [link]}), 422, "invalid"))
    assert fields.keys() == {"links[0]"}


def test_a_visitor_edits_nothing(visitor: Visitor, problem: Problem) -> None:
    problem(visitor.ask("PATCH", "/v1/me", {"name": "Nobody"}), 401, "not_signed_in")
    problem(visitor.ask("DELETE", "/v1/me/picture"), 401, "not_signed_in")


def test_a_picture_is_shown_everywhere_replaced_and_removed(stack: Stack, ada: Person, bob: Person) -> None:
    post = ada.post_photo("With a picture")
    assert bob.get(f"/v1/posts/{post['id']}")["author"]["picture"] is None
    first, second = upload_picture(ada, 1), upload_picture(ada, 2)
    with standing_still(stack, "background", "relay"):
        shown = ada.put("/v1/me/picture", first)["user"]["picture"]
        assert [shown[size].endswith(first[size]) for size in SIZES] == [True] * 3
        assert all(is_there(url) for url in shown.values())
        assert bob.get(f"/v1/posts/{post['id']}")["author"]["picture"] == shown
        assert bob.get(f"/v1/users/{ada.username}")["user"]["picture"] == shown
        # A request that comes twice is answered twice, and deletes nothing.
        assert ada.put("/v1/me/picture", first)["user"]["picture"] == shown
    replaced = ada.put("/v1/me/picture", second)["user"]["picture"]
    wait_until(lambda: not any(is_there(url) for url in shown.values()))
    assert all(is_there(url) for url in replaced.values())
    assert bob.get(f"/v1/posts/{post['id']}")["author"]["picture"] == replaced
    for _ in range(2):
        assert ada.delete("/v1/me/picture")["user"]["picture"] is None
    assert bob.get(f"/v1/users/{ada.username}")["user"]["picture"] is None
    wait_until(lambda: not any(is_there(url) for url in replaced.values()))


def test_objects_that_make_no_picture(alice: Person, bob: Person, problem: Problem) -> None:
    mine, theirs = upload_picture(alice), upload_picture(bob)
    medium = alice.upload_photo()
    shown = alice.put("/v1/me/picture", mine)["user"]["picture"]
    body = {"small": theirs["small"], "medium": medium["actual"], "large": mine["large"]}
    assert faults(problem(alice.ask("PUT", "/v1/me/picture", body), 422, "invalid")) == {
        "small": "not_found",
        "medium": "wrong_purpose",
        "large": "already_attached",
    }
    fresh = upload_picture(alice, 1)
    swapped = {"small": fresh["large"], "medium": fresh["medium"], "large": fresh["small"]}
    refused = problem(alice.ask("PUT", "/v1/me/picture", swapped), 422, "invalid")
    assert faults(refused) == {"small": "wrong_purpose", "large": "wrong_purpose"}
    refused = problem(alice.ask("PUT", "/v1/me/picture", {"small": fresh["small"], "tiny": "x"}), 422, "invalid")
    assert faults(refused) == {"medium": "missing", "large": "missing", "tiny": "unknown_field"}
    assert alice.get("/v1/me")["user"]["picture"] == shown
    assert all(is_there(url) for url in shown.values())


def test_of_two_pictures_at_once_one_stays_whole(alice: Person) -> None:
    pictures = [upload_picture(alice, seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda picture: alice.ask("PUT", "/v1/me/picture", picture), pictures))
    assert [answer.status_code for answer in answers] == [200] * 4
    shown = alice.get("/v1/me")["user"]["picture"]
    (stays,) = [picture for picture in pictures if shown["small"].endswith(picture["small"])]
    assert all(shown[size].endswith(stays[size]) for size in SIZES)
    prefix = shown["small"].removesuffix(stays["small"])
    gone = [f"{prefix}{name}" for picture in pictures if picture != stays for name in picture.values()]
    wait_until(lambda: not any(is_there(url) for url in gone))
    assert all(is_there(url) for url in shown.values())
