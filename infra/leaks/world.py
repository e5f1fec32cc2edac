"""A small world with one viewer in the middle, and somebody in each relation to them, whose words nobody can guess."""

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from infra.leaks import plant
from infra.local.stack import Stack
from tests.client import Person, sign_up, wait_until

# How each stands to the viewer: `follower` follows them and `followed` is; `muted` and `blocked` are so by the viewer,
# while `blocking` blocks the viewer. Whoever may be hidden followed, and was followed, before.
Relation = Literal["viewer", "stranger", "follower", "followed", "muted", "blocked", "blocking", "suspended", "deleted"]
FOLLOW_THE_VIEWER = ("follower", "followed", "muted", "blocked", "blocking", "suspended", "deleted")
ARE_FOLLOWED = ("followed", "muted", "blocked", "blocking", "suspended", "deleted")
GONE = ("suspended", "deleted")
THREADS = 4


class Post(NamedTuple):
    """A post, the word in its description and in the author's comment on it, and that comment."""

    id: str
    word: str
    comment: str


@dataclass
class Someone:
    """A person of the world, and the words by which they are known: `card`, `name`, `bio`, and those of their posts."""

    relation: Relation
    person: Person
    words: dict[str, str]
    posts: list[Post] = field(default_factory=list)

    @property
    def is_gone(self) -> bool:
        """Suspended or deleted."""
        return self.relation in GONE


class World:
    """Everybody, and what by the contract they may see of each other. Says nothing of what the code under test does."""

    def __init__(self, everybody: list[Someone]) -> None:
        self.everybody = everybody
        self.viewer = everybody[0]

    def others(self) -> list[Someone]:
        """All but the viewer."""
        return self.everybody[1:]

    def living(self) -> list[Someone]:
        """Those who can still sign in."""
        return [one for one in self.everybody if not one.is_gone]

    def sees(self, who: Someone | None, subject: Someone) -> bool:
        """Whether `who`, None for a visitor, may see anything of `subject`."""
        blocked = who is not None and {who.relation, subject.relation} & {"blocked", "blocking"}
        return who is subject or not (subject.is_gone or (blocked and self.viewer in (who, subject)))

    def follows(self, who: Someone | None, subject: Someone) -> bool:
        """Whether `who` follows `subject`, or did when they could."""
        if who is self.viewer:
            return subject.relation in ARE_FOLLOWED
        return subject is self.viewer and who is not None and who.relation in FOLLOW_THE_VIEWER

    def hears(self, who: Someone | None, subject: Someone) -> bool:
        """Whether `who` may be told of what `subject` does."""
        muted = who is self.viewer and subject.relation == "muted"
        return who is not None and who is not subject and self.sees(who, subject) and not muted

    def is_addressed(self, who: Someone | None, subject: Someone) -> bool:
        """Whether `subject` did something that `who` may be told of: the viewer and each other mention one another."""
        return self.viewer in (who, subject) and self.hears(who, subject)

    def has_blocked(self, who: Someone | None, subject: Someone) -> bool:
        """Whether `who` blocks `subject`."""
        by_the_viewer = who is self.viewer and subject.relation == "blocked"
        return by_the_viewer or (who is not None and who.relation == "blocking" and subject is self.viewer)

    def has_muted(self, who: Someone | None, subject: Someone) -> bool:
        """Whether `who` mutes `subject`."""
        return who is self.viewer and subject.relation == "muted"

    def is_fed(self, who: Someone | None, subject: Someone) -> bool:
        """Whether posts of `subject` belong in the feed of `who`."""
        return who is not None and (who is subject or (self.follows(who, subject) and self.hears(who, subject)))


def make(stack: Stack, told: Callable[[str], None] = lambda step: None) -> World:
    """Make it through the API: all can see all, and then some hide. Raises AssertionError where the stack fails."""
    told("people")
    relations: tuple[Any, ...] = Relation.__args__  # type: ignore[attr-defined]
    with ThreadPoolExecutor(THREADS) as threads:
        world = World(list(threads.map(lambda relation: _arrive(stack, relation), relations)))
    told("acts")
    for one in world.others():
        if one.relation in FOLLOW_THE_VIEWER:
            one.person.follow(world.viewer.person.username)
        if one.relation in ARE_FOLLOWED:
            world.viewer.person.follow(one.person.username)
    speak(world)
    for one in world.others():
        _engage(one.person, world.viewer.posts[0])
        _engage(world.viewer.person, one.posts[0])
    _wait_until_heard(world)
    told("relations")
    _read_all(world)
    for one in world.others():
        plant.RELATIONS.get(one.relation, lambda viewer, other: None)(world.viewer.person, one.person)
    return world


def speak(world: World) -> None:
    """Everybody who can posts, with a word of its own; the viewer mentions all, and all mention the viewer."""
    for one in world.living() if world.viewer.posts else world.everybody:
        named = world.others() if one is world.viewer else [world.viewer]
        word = _word()
        description = " ".join([word, *(f"@{other.person.username}" for other in named)])
        post_id = one.person.post_photo(description, seed=len(one.posts))["id"]
        comment = one.person.post(f"/v1/posts/{post_id}/comments", {"text": word})["id"]
        one.posts.append(Post(post_id, word, comment))


def _engage(person: Person, post: Post) -> None:
    person.put(f"/v1/posts/{post.id}/save")
    for path in (f"/v1/posts/{post.id}", f"/v1/comments/{post.comment}"):
        person.put(f"{path}/reaction", {"emoji": "🌻"})
    person.post(f"/v1/posts/{post.id}/comments", {"text": "Seen"})
    person.post(f"/v1/comments/{post.comment}/replies", {"text": "Seen"})


def _arrive(stack: Stack, relation: Relation) -> Someone:
    words = {"name": _word(), "bio": _word()}
    person = sign_up(stack, f"u{secrets.token_hex(8)}", name=words["name"], bio=words["bio"])
    return Someone(relation, person, words | {"card": f'"username":"{person.username}"'})


def _word() -> str:
    return f"w{secrets.token_hex(8)}"


def _wait_until_heard(world: World) -> None:
    """All that is hidden later was there to be seen: else hiding it proves nothing."""
    for one in world.others():
        wait_until(lambda one=one: one.person.get("/v1/notifications")["items"])
    names = {one.words["name"] for one in world.others()}
    viewer = world.viewer.person
    wait_until(lambda: all(name in str(list(viewer.items("/v1/notifications"))) for name in names))
    fed = {post.word for one in world.others() if one.relation in ARE_FOLLOWED for post in one.posts}
    wait_until(lambda: all(word in str(list(viewer.items("/v1/feed"))) for word in fed))


def _read_all(world: World) -> None:
    """Have Redis hold it: what is kept there is what leaks."""
    for one in world.everybody:
        for other in world.everybody:
            one.person.get(f"/v1/users/{other.person.username}")
            for part in ("posts", "followers", "following"):
                one.person.get(f"/v1/users/{other.person.username}/{part}")
            for part in ("comments", "reactions"):
                one.person.get(f"/v1/posts/{other.posts[0].id}/{part}")
            for part in ("replies", "reactions"):
                one.person.get(f"/v1/comments/{other.posts[0].comment}/{part}")
        for part in ("saved", "reacted", "mentioned", "commented"):
            one.person.get(f"/v1/me/{part}")
        one.person.get("/v1/feed")
        one.person.get("/v1/notifications")
