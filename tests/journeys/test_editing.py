"""Editing a post: its text, its mentions and hashtags, its alt texts."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.client import Format, Person, wait_until

Problem = Callable[[httpx.Response, int, str], dict[str, Any]]


def mentions(person: Person) -> list[str]:
    """The posts that someone is notified of being mentioned in."""
    items = person.get("/v1/notifications")["items"]
    return [item["subject"]["id"] for item in items if item["type"] == "mention"]


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_an_edit_tells_the_newly_mentioned_and_takes_it_back_from_the_others(
    alice: Person, bob: Person, person: Callable[[], Person], format: Format
) -> None:
    alice, carol = alice.speaking(format), person()
    post = alice.post_photo(f"Hello @{bob.username} #one")
    path = f"/v1/posts/{post['id']}"
    wait_until(lambda: mentions(bob) == [post["id"]])
    reacted = bob.put(f"{path}/reaction", {"emoji": "👍"})
    edited = alice.ask("PATCH", path, {"description": f"Hello @{carol.username} #two"})
    assert edited.status_code == 200
    after = alice.get(path)
    assert after == reacted | {
        "description": f"Hello @{carol.username} #two",
        "mentions": [carol.username],
        "hashtags": ["two"],
        "entities": after["entities"],
        "edited_at": after["edited_at"],
        "viewer": post["viewer"],
    }
    assert after["edited_at"] >= post["created_at"]
    assert bob.get(path) == after | {"viewer": reacted["viewer"]}
    wait_until(lambda: mentions(carol) == [post["id"]] and not mentions(bob))
    assert [item["id"] for item in carol.items("/v1/me/mentioned")] == [post["id"]]
    assert list(bob.items("/v1/me/mentioned")) == []


def test_who_stays_mentioned_is_told_nothing_new(alice: Person, bob: Person) -> None:
    post = alice.post_photo(f"Helo @{bob.username}")
    wait_until(lambda: mentions(bob) == [post["id"]])
    bob.put("/v1/notifications/read")
    (before,) = bob.get("/v1/notifications")["items"]
    alice.ask("PATCH", f"/v1/posts/{post['id']}", {"description": f"Hello @{bob.username}"})
    other = alice.post_photo(f"Afterwards @{bob.username}")
    wait_until(lambda: mentions(bob) == [other["id"], post["id"]])
    assert bob.get("/v1/notifications")["items"][1] == before


def test_alt_texts_are_by_medium(alice: Person, problem: Problem) -> None:
    media = [alice.upload_photo(1) | {"alt_text": "A cat"}, alice.upload_photo(2)]
    post = alice.post("/v1/posts", {"type": "photo:square", "media": media, "description": "Two"})
    path = f"/v1/posts/{post['id']}"
    assert alice.ask("PATCH", path, {"alt_texts": [None, "A dog"]}).status_code == 200
    edited = alice.get(path)
    assert [medium["alt_text"] for medium in edited["media"]] == [None, "A dog"]
    assert edited["description"] == "Two"
    for wrong in ([], ["one"], ["a", "b", "c"]):
        found = problem(alice.ask("PATCH", path, {"alt_texts": wrong}), 422, "invalid")
        assert [(fault["field"], fault["code"]) for fault in found["errors"]] == [("alt_texts", "wrong_length")]
    found = problem(alice.ask("PATCH", path, {"alt_texts": 1, "description": None, "type": "reel"}), 422, "invalid")
    assert {fault["field"] for fault in found["errors"]} == {"alt_texts", "description", "type"}
    assert alice.get(path) == edited


def test_an_edit_that_changes_nothing_is_none(alice: Person) -> None:
    post = alice.post_photo("As it is")
    for same in ({}, {"description": "As it is"}, {"alt_texts": [None]}):
        answer = alice.ask("PATCH", f"/v1/posts/{post['id']}", same)
        assert (answer.status_code, answer.json()) == (200, post)


def test_the_author_alone_edits(alice: Person, bob: Person, problem: Problem) -> None:
    post = alice.post_photo("Mine")
    problem(bob.ask("PATCH", f"/v1/posts/{post['id']}", {"description": "Yours"}), 403, "not_author")
    problem(bob.ask("PATCH", f"/v1/posts/{'0' * 13}", {"description": "Yours"}), 404, "post_not_found")
    alice.delete(f"/v1/posts/{post['id']}")
    problem(alice.ask("PATCH", f"/v1/posts/{post['id']}", {"description": "Gone"}), 404, "post_not_found")


def test_entities_say_where_links_belong(alice: Person, bob: Person) -> None:
    text = f"🧑‍🚀 @{bob.username}, @nobody.here.9 #Sömmer #7 and again @{bob.username}. #sömmer"
    post = alice.post_photo(text)
    found = [(one["type"], one["text"], text[one["start"] : one["end"]]) for one in post["entities"]]
    mention, tag = ("mention", bob.username, f"@{bob.username}"), ("hashtag", "sömmer")
    assert found == [mention, (*tag, "#Sömmer"), mention, (*tag, "#sömmer")]
