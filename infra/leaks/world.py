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
# With whose posts and comments everybody does everything.
STAGES = ("viewer", "stranger")
# Who acts where the viewer and others have met: nobody hides from them.
BETWEEN: Relation = "stranger"
OWN_LISTS = ("saved", "reacted", "commented", "mentioned", "blocked", "muted")
THREADS = 4


class Post(NamedTuple):
    """A post, and the word in its description."""

    id: str
    word: str


class Comment(NamedTuple):
    """A comment, and the relation of whose post it is on."""

    id: str
    on: Relation


@dataclass
class Someone:
    """A person of the world, and the words by which they are known.

    `card`, `name`, `bio`; `mention`, by which others name them; `comment`, `reply` and `message`, which all that they
    say has in it; and those of their posts.
    """

    relation: Relation
    person: Person
    words: dict[str, str]
    posts: list[Post] = field(default_factory=list)
    comments: list[Comment] = field(default_factory=list)

    @property
    def is_gone(self) -> bool:
        """Suspended or deleted."""
        return self.relation in GONE


class World:
    """Everybody, and what by the contract they may see of each other. Says nothing of what the code under test does."""

    def __init__(self, everybody: list[Someone]) -> None:
        self.everybody = everybody
        self.viewer = everybody[0]

    def named(self, relation: Relation) -> Someone:
        """Who stands so to the viewer."""
        return next(one for one in self.everybody if one.relation == relation)

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

    def still_follows(self, who: Someone, subject: Someone) -> bool:
        """Whether `who` follows `subject` as their lists show it: a block has ended the follows of both."""
        blocked = {who.relation, subject.relation} & {"blocked", "blocking"}
        return self.follows(who, subject) and not blocked

    def acted(self, subject: Someone, owner: Someone) -> bool:
        """Whether `subject` did all that can be done with the first post of `owner`, and with their first comment.

        The viewer did with everybody's, and all did with the viewer's and the stranger's.
        """
        return subject is self.viewer or owner.relation in STAGES

    def between(self, owner: Someone) -> list[Comment]:
        """Those comments of `owner` that a third person answered, whom neither of the two hides from."""
        return [] if owner.relation == BETWEEN else owner.comments[1:]

    def said_below(self, subject: Someone, owner: Someone) -> bool:
        """Whether `subject` said something below the first post of `owner`: the viewer has a comment on everybody's."""
        return self.acted(subject, owner) or subject.relation == BETWEEN

    def has_blocked(self, who: Someone | None, subject: Someone) -> bool:
        """Whether `who` has blocked `subject`."""
        pairs = (self.viewer, self.named("blocked")), (self.named("blocking"), self.viewer)
        return any(who is one and subject is other for one, other in pairs)

    def has_muted(self, who: Someone | None, subject: Someone) -> bool:
        """Whether `who` has muted `subject`."""
        return who is self.viewer and subject.relation == "muted"

    def hears(self, who: Someone | None, subject: Someone) -> bool:
        """Whether `who` may be told of what `subject` does."""
        muted = who is self.viewer and subject.relation == "muted"
        return who is not None and who is not subject and self.sees(who, subject) and not muted

    def is_addressed(self, who: Someone | None, subject: Someone) -> bool:
        """Whether `subject` did something that `who` may be told of: the viewer and each other mention one another."""
        return self.viewer in (who, subject) and self.hears(who, subject)

    def are_in_touch(self, who: Someone, subject: Someone) -> bool:
        """Whether each of two may see that the other is here: the viewer and all others have written to each other."""
        return who is not subject and self.viewer in (who, subject) and self.sees(who, subject)

    def is_fed(self, who: Someone | None, subject: Someone) -> bool:
        """Whether posts of `subject` belong in the feed of `who`."""
        return who is not None and (who is subject or (self.follows(who, subject) and self.hears(who, subject)))

    def may_be_fed(self, who: Someone | None, subject: Someone) -> bool:
        """Whether posts of `subject` may be in the feed of `who`: those that others repost, too."""
        return who is subject or self.hears(who, subject)


def make(stack: Stack, told: Callable[[str], None] = lambda step: None) -> World:
    """Make it through the API: all can see all, and then some hide. Raises AssertionError where the stack fails."""
    told("people")
    relations: tuple[Any, ...] = Relation.__args__  # type: ignore[attr-defined]
    with ThreadPoolExecutor(THREADS) as threads:
        world = World(list(threads.map(lambda relation: _arrive(stack, relation), relations)))
    told("acts")
    _befriend(world)
    speak(world)
    _meet(world)
    _wait_until_heard(world)
    told("relations")
    _read_all(world)
    for one in world.others():
        if one.relation in plant.RELATIONS:
            plant.RELATIONS[one.relation](stack, world.viewer.person, one.person)
    stranger = world.named("stranger").person
    for comment in world.named("deleted").comments:
        # Hidden it is at once; what is left of it in the end is its place above the replies.
        path = f"/v1/comments/{comment.id}"
        wait_until(lambda path=path: stranger.ask("GET", path).status_code == 200)
    return world


def _meet(world: World) -> None:
    """All that can be done with posts and comments, by whom the world says."""
    for one in world.everybody:
        for owner in world.everybody:
            if world.acted(one, owner):
                act(one, owner)
    for one in world.everybody:
        for owner in world.everybody:
            if world.acted(one, owner):
                _answer(one, owner.comments[0])
    for owner in world.everybody:
        for comment in world.between(owner):
            _answer(world.named(BETWEEN), comment)


def _befriend(world: World) -> None:
    """All follow the viewer, or are followed, who do so, and talk with the viewer."""
    for one in world.others():
        if one.relation in FOLLOW_THE_VIEWER:
            one.person.follow(world.viewer.person.username)
        if one.relation in ARE_FOLLOWED:
            world.viewer.person.follow(one.person.username)
        talk(world.viewer, one)


def speak(world: World) -> None:
    """Everybody who can posts, with a word of its own; the viewer mentions all, and all mention the viewer."""
    for one in world.living() if world.viewer.posts else world.everybody:
        named = world.others() if one is world.viewer else [world.viewer]
        word = _word()
        description = " ".join([word, *(f"@{other.person.username}" for other in named)])
        one.posts.append(Post(one.person.post_photo(description, seed=len(one.posts))["id"], word))


def act(one: Someone, owner: Someone, post: int = 0) -> None:
    """Comment on a post, react to it, save it and repost it."""
    path = f"/v1/posts/{owner.posts[post].id}"
    said = one.person.post(f"{path}/comments", {"text": one.words["comment"]})
    if post == 0:
        # First the one on the stranger's post, which everybody may see who may see its author.
        one.comments.insert(
            0 if owner.relation == "stranger" else len(one.comments), Comment(said["id"], owner.relation)
        )
    one.person.put(f"{path}/reaction", {"emoji": "👍"})
    one.person.put(f"{path}/save")
    one.person.put(f"{path}/repost")


def talk(one: Someone, other: Someone) -> None:
    """One writes to another, who writes back: both words are there for both."""
    for sender, recipient in ((one, other), (other, one)):
        content = {"type": "text", "text": sender.words["message"]}
        message = {"client_id": secrets.token_hex(8), "content": content}
        sender.person.post(f"/v1/chats/{recipient.person.username}/messages", message)


def _answer(one: Someone, comment: Comment) -> None:
    path = f"/v1/comments/{comment.id}"
    one.person.post(f"{path}/replies", {"text": one.words["reply"]})
    one.person.put(f"{path}/reaction", {"emoji": "👍"})


def _arrive(stack: Stack, relation: Relation) -> Someone:
    words = {what: _word() for what in ("name", "bio", "comment", "reply", "message")}
    person = sign_up(stack, f"u{secrets.token_hex(8)}", name=words["name"], bio=words["bio"])
    card, mention = f'"username":"{person.username}"', f'"type":"mention","text":"{person.username}"'
    return Someone(relation, person, words | {"card": card, "mention": mention})


def _word() -> str:
    return f"w{secrets.token_hex(8)}"


def _wait_until_heard(world: World) -> None:
    """All that is hidden later was there to be seen: else hiding it proves nothing."""
    for one in world.others():
        wait_until(lambda one=one: one.person.get("/v1/notifications")["items"])
    names = {one.words["name"] for one in world.others()}
    viewer = world.viewer.person
    wait_until(lambda: all(name in str(list(viewer.items("/v1/notifications"))) for name in names))
    for one in world.everybody:
        met = {comment.id for comment in world.between(one)}
        wait_until(lambda one=one, met=met: all(met <= told_about(one, kind) for kind in ("reply", "reaction")))
    fed = {post.word for one in world.others() if one.relation in ARE_FOLLOWED for post in one.posts}
    wait_until(lambda: all(word in str(list(viewer.items("/v1/feed"))) for word in fed))


def told_about(one: Someone, kind: str) -> set[str]:
    """The ids of what somebody's notifications of a type are about."""
    return {group["subject"]["id"] for group in one.person.items("/v1/notifications") if group["type"] == kind}


def _read_all(world: World) -> None:
    """Have Redis hold it: what is kept there is what leaks."""
    for one in world.everybody:
        for other in world.everybody:
            for listed in ("", "/posts", "/followers", "/following"):
                one.person.get(f"/v1/users/{other.person.username}{listed}")
            for listed in ("", "/comments", "/reactions", "/reposts"):
                one.person.get(f"/v1/posts/{other.posts[0].id}{listed}")
            if one is not other:
                one.person.get(f"/v1/chats/{other.person.username}/messages")
            for listed in ("", "/replies", "/reactions"):
                one.person.get(f"/v1/comments/{other.comments[0].id}{listed}")
        for listed in ("feed", "notifications", "chats", *[f"me/{of}" for of in OWN_LISTS]):
            one.person.get(f"/v1/{listed}")
