"""A mention leads to a person: nobody is named to who must not see them, nor anybody who is gone. The text stays."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from infra.leaks import plant
from infra.local.stack import Stack
from shared.kernel import cache
from shared.kernel.projection import FORM
from tests.client import Format, Person, Visitor, sign_up, trips, wait_until


class Scene:
    """What somebody wrote who mentions two, and all the places where one of those two comes across it."""

    def __init__(self, author: Person, reader: Person, other: Person) -> None:
        self.author, self.reader, self.other = author, reader, other
        self.text = f"With @{other.username} and @{reader.username} #{other.username}"
        reader.follow(author.username)
        self.post = author.post_photo(self.text)["id"]
        self.comment = author.post(f"/v1/posts/{self.post}/comments", {"text": self.text})["id"]
        self.reply = author.post(f"/v1/comments/{self.comment}/replies", {"text": self.text})["id"]
        reader.put(f"/v1/posts/{self.post}/save")
        wait_until(lambda: self.feed(reader))

    def feed(self, who: Person) -> list[dict[str, Any]]:
        return [post for post in who.get("/v1/feed")["items"] if post["id"] == self.post]

    def public(self, who: Visitor) -> list[dict[str, Any]]:
        """What anybody may read."""
        return [
            who.get(f"/v1/posts/{self.post}"),
            who.get(f"/v1/users/{self.author.username}/posts")["items"][0],
            who.get(f"/v1/comments/{self.comment}"),
            who.get(f"/v1/posts/{self.post}/comments")["items"][0],
            who.get(f"/v1/comments/{self.comment}/replies")["items"][0],
        ]

    def seen(self) -> list[dict[str, Any]]:
        """What the reader is shown, on every surface, and by what they do themselves."""
        reader = self.reader
        emoji = {"emoji": "🌻"}
        return [
            *self.public(reader),
            *self.feed(reader),
            *reader.get("/v1/me/saved")["items"],
            *[one for one in reader.get("/v1/me/mentioned")["items"] if one["id"] == self.post],
            reader.put(f"/v1/posts/{self.post}/reaction", emoji),
            reader.delete(f"/v1/posts/{self.post}/reaction"),
            reader.put(f"/v1/posts/{self.post}/save"),
            reader.put(f"/v1/comments/{self.comment}/reaction", emoji),
            reader.delete(f"/v1/comments/{self.comment}/reaction"),
        ]

    def check(self, shown: list[dict[str, Any]], *named: Person) -> None:
        names = [one.username for one in named]
        for one in shown:
            assert one["mentions"] == names, one
            if "entities" in one:
                assert [entity["text"] for entity in one["entities"]] == [*names, self.other.username]
                assert one["description"] == self.text
            else:
                assert one["text"] == self.text


@pytest.fixture(params=["json", "msgpack"])
def scene(stack: Stack, person: Callable[[], Person], request: pytest.FixtureRequest) -> Scene:
    format: Format = request.param
    return Scene(person(), sign_up(stack, format=format), person())


@pytest.mark.parametrize("who_blocks", ["reader", "other"])
def test_nobody_is_named_across_a_block(scene: Scene, visitor: Visitor, who_blocks: str) -> None:
    scene.check([*scene.seen(), *scene.public(visitor)], scene.other, scene.reader)
    one, two = (scene.reader, scene.other) if who_blocks == "reader" else (scene.other, scene.reader)
    plant.block(one, two)
    scene.check(scene.seen(), scene.reader)
    scene.check([*scene.public(scene.author), *scene.public(visitor)], scene.other, scene.reader)
    one.delete(f"/v1/users/{two.username}/block")
    scene.check(scene.seen(), scene.other, scene.reader)


def test_nobody_is_named_who_is_gone(stack: Stack, scene: Scene, visitor: Visitor) -> None:
    scene.check([*scene.seen(), *scene.public(visitor)], scene.other, scene.reader)
    plant.suspend(stack, scene.other)
    scene.check([*scene.seen(), *scene.public(visitor), *scene.public(scene.author)], scene.reader)
    plant.delete(scene.reader)
    scene.check([*scene.public(visitor), *scene.public(scene.author)])
    edited = scene.author.patch(f"/v1/posts/{scene.post}", {"alt_texts": ["A sunflower"]})
    scene.check([edited, *scene.public(visitor)])


def test_nobody_is_named_live_across_a_block(person: Callable[[], Person]) -> None:
    author, reader, other, third = (person() for _ in range(4))
    for follower in (reader, third):
        follower.follow(author.username)
    plant.block(other, reader)
    with reader.live() as blocked, third.live() as live:
        post = author.post_photo(f"With @{other.username}")
        assert live.event("feed.post_created")["data"] == third.get(f"/v1/posts/{post['id']}")
        told = blocked.event("feed.post_created")["data"]
    assert told == reader.get(f"/v1/posts/{post['id']}")
    assert (told["mentions"], told["entities"]) == ([], [])
    assert third.get(f"/v1/posts/{post['id']}")["mentions"] == [other.username]


def test_nobody_is_named_by_what_was_kept_in_an_older_form(scene: Scene) -> None:
    plant.block(scene.other, scene.reader)
    scene.check(scene.seen(), scene.reader)
    keys = [f"post:{scene.post}", f"comment:{scene.comment}", f"comment:{scene.reply}"]
    (kept,) = cache.run_sync(("MGET", *keys))
    for key, value in zip(keys, kept, strict=True):
        ((version, form, head, body),) = re.findall(rb"^(\d{16})(.)([^{]+)({.+)$", value)
        assert form == FORM
        # As it was before bodies said first who is mentioned.
        ((first, rest),) = re.findall(rb"^{(\"mentions\":\[.+?\]),(.+)$", body)
        older = b"{" + (rest[:-1] + b"," + first + b"}" if rest.endswith(b"}}") else rest + b"," + first)
        cache.run_sync(("SET", key, version + head + older))
    scene.check(scene.public(scene.reader), scene.reader)
    assert cache.run_sync(("MGET", *keys)) == [kept]


def test_it_costs_no_trip_once_it_was_shown(scene: Scene) -> None:
    plant.block(scene.reader, scene.other)
    paths = ["/v1/feed", f"/v1/users/{scene.author.username}/posts", f"/v1/posts/{scene.post}/comments"]
    post = f"/v1/posts/{scene.post}"
    for path in [*paths, post, f"/v1/comments/{scene.comment}", "/v1/me/saved"]:
        wait_until(lambda path=path: trips(scene.reader.ask("GET", path), "postgres") == 0)
        answer = scene.reader.ask("GET", path)
        assert trips(answer, "redis") == (1 if path == post else 2), answer.headers["server-timing"]
        assert trips(answer, "postgres") == 0, answer.headers["server-timing"]
