"""Every list there is, and how its entries come, go and move: for tests that read one while they do."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import httpx

from infra.local.stack import Stack
from shared.kernel import ids
from shared.notifications import actions as notifications
from shared.notifications.model import Act
from shared.profiles import reads as profiles
from tests.chat.talk import write
from tests.client import Person, sign_in, sign_up
from tests.comments.thread import comment, reply
from tests.moderation.accounts import promoted, reported

SLOTS: Final = 5
Item = dict[str, Any]
# The keys of a page, its limit, and the cursor for the next one.
Pages = Iterator[tuple[list[str], int, str | None]]


def by_id(item: Item) -> str:
    return item["id"]


def by_user(item: Item) -> str:
    return item["user"]["username"]


class World:
    """`people` act on the posts of an `author`; the others have lists of their own."""

    def __init__(self, stack: Stack):
        self.stack = stack
        self.reader, self.author, self.teller, self.keeper = (sign_up(stack) for _ in range(4))
        self.people = [sign_up(stack) for _ in range(SLOTS)]
        self.posts = [self.author.post_photo(seed=n)["id"] for n in range(SLOTS)]
        self.told = [self.teller.post_photo(seed=n)["id"] for n in range(SLOTS)]
        self.comment = comment(self.author, {"id": self.posts[1]})
        promoted(self.reader)
        for person in self.people:
            write(self.author, person, "Hello")


@dataclass
class Listing:
    """A list with a slot for each entry that may be in it.

    `put` brings in the entry of a slot, and gives its key; `take` takes it out. `moves` change it while it stays in.
    """

    path: str
    reader: Person
    key: Callable[[Item], str]
    put: Callable[[int], str]
    take: Callable[[int, str], object] | None = None
    moves: dict[str, Callable[[int], object]] = field(default_factory=dict)
    # The keys of those that are in, by slot.
    there: dict[int, str] = field(default_factory=dict)

    def fill(self) -> None:
        for slot in range(SLOTS):
            self.happen("put", slot)

    def happen(self, act: str, slot: int) -> str | None:
        """Do something to the entry of a slot; its key, if that changed anything."""
        key = self.there.get(slot)
        if key is None and act == "put":
            key = self.there[slot] = self.put(slot)
        elif key is not None and act == "take" and self.take is not None:
            self.take(slot, self.there.pop(slot))
        elif key is not None and act in self.moves:
            self.moves[act](slot)
        else:
            return None
        return key

    def ask(self, person: Person, limit: int, cursor: str | None = None) -> httpx.Response:
        """The answer with a page of it, as somebody sees it."""
        parameters = f"limit={limit}" + ("" if cursor is None else f"&cursor={cursor}")
        return person.ask("GET", f"{self.path}{'&' if '?' in self.path else '?'}{parameters}")

    def pages(self, limits: Iterable[int]) -> Pages:
        """Page after page, each read when it is asked for."""
        cursor: str | None = None
        for limit in limits:
            page = self.ask(self.reader, limit, cursor).raise_for_status().json()
            cursor = page["next_cursor"]
            yield [self.key(item) for item in page["items"]], limit, cursor
            if cursor is None:
                return
        raise AssertionError("the list has no end")

    def keys(self) -> list[str]:
        """The keys of all that was put into it, in order."""
        there = set(self.there.values())
        return [key for keys, *_ in self.pages([100] * 100) for key in keys if key in there]


def relation(lister: Person, path: str, people: list[Person], name: str, *, of_theirs: bool = False) -> Listing:
    """A list of users: `lister` has done `name` to them, or they to the lister."""

    def done(verb: str, slot: int) -> str:
        one, other = (people[slot], lister) if of_theirs else (lister, people[slot])
        assert one.ask(verb, f"/v1/users/{other.username}/{name}").status_code == 200
        return people[slot].username

    return Listing(path, lister, by_user, partial(done, "PUT"), lambda slot, _: done("DELETE", slot))


def engaged(by: Person, path: str, posts: list[str], name: str) -> Listing:
    """A list of posts that its reader engaged with."""
    body = {"emoji": "👍"} if name == "reaction" else None

    def put(slot: int) -> str:
        by.put(f"/v1/posts/{posts[slot]}/{name}", body)
        return posts[slot]

    moves: dict[str, Callable[[int], object]] = {}
    if name == "reaction":
        moves["up"] = lambda slot: by.put(f"/v1/posts/{posts[slot]}/{name}", {"emoji": "🌻"})
    return Listing(path, by, by_id, put, lambda _, key: by.delete(f"/v1/posts/{key}/{name}"), moves)


def engaging(world: World, subject: str, name: str) -> Listing:
    """A list of those who engaged with one subject."""
    body = {"emoji": "👍"} if name == "reaction" else None

    def put(slot: int) -> str:
        world.people[slot].put(f"{subject}/{name}", body)
        return world.people[slot].username

    moves: dict[str, Callable[[int], object]] = {}
    if name == "reaction":
        moves["up"] = lambda slot: world.people[slot].put(f"{subject}/{name}", {"emoji": "🌻"})

    def take(slot: int, _: str) -> None:
        world.people[slot].delete(f"{subject}/{name}")

    return Listing(f"{subject}/{name}s", world.reader, by_user, put, take, moves)


def said(world: World, path: str, say: Callable[[Person], Item]) -> Listing:
    """A list of comments or replies."""

    def put(slot: int) -> str:
        return say(world.people[slot])["id"]

    def take(slot: int, key: str) -> None:
        world.people[slot].delete(f"/v1/comments/{key}")

    return Listing(path, world.reader, by_id, put, take)


def commented(world: World) -> Listing:
    """Posts, by the newest of one's comments on each."""
    made: list[list[Item]] = [[] for _ in range(SLOTS)]

    def up(slot: int) -> str:
        made[slot].append(comment(world.reader, {"id": world.posts[slot]}))
        return world.posts[slot]

    def drop(slot: int) -> None:
        world.reader.delete(f"/v1/comments/{made[slot].pop()['id']}")

    def down(slot: int) -> None:
        if len(made[slot]) > 1:
            drop(slot)

    def take(slot: int, _: str) -> None:
        while made[slot]:
            drop(slot)

    return Listing("/v1/me/commented", world.reader, by_id, up, take, {"up": up, "down": down})


def notified(world: World) -> Listing:
    """Groups, by the newest act of each. As their events have it, but at once."""
    found = profiles.named([one.username for one in (world.teller, *world.people)])
    owner, *actors = found[world.teller.username], *[found[one.username] for one in world.people]
    acts: list[dict[int, int]] = [{} for _ in range(SLOTS)]
    versions = itertools.count(1)
    earlier: list[int] = []

    def act(slot: int, actor: int, act_id: int | None) -> str:
        subject = f"post:{world.told[slot]}"
        notifications.apply([Act(owner, "reaction", subject, actor, act_id, next(versions))])
        if act_id is None:
            del acts[slot][actor]
        else:
            acts[slot][actor] = act_id
        return world.told[slot]

    def newest(slot: int) -> int:
        return max(acts[slot], key=lambda actor: acts[slot][actor])

    def up(slot: int) -> str:
        earlier.append(ids.new_id())
        others = [actor for actor in actors if actor not in acts[slot]]
        return act(slot, others[0] if others else min(acts[slot], key=lambda one: acts[slot][one]), ids.new_id())

    def late(slot: int) -> None:
        """Somebody acted a while ago, and it is heard of now."""
        others = [actor for actor in actors if actor not in acts[slot]]
        if others and earlier:
            act(slot, others[0], earlier.pop())

    def down(slot: int) -> None:
        if len(acts[slot]) > 1:
            act(slot, newest(slot), None)

    def take(slot: int, _: str) -> None:
        while acts[slot]:
            act(slot, newest(slot), None)

    return Listing(
        "/v1/notifications",
        world.teller,
        lambda item: item["subject"]["id"],
        up,
        take,
        {"up": up, "down": down, "late": late},
    )


def chats(world: World, reader: Person, box: str) -> Listing:
    """Chats, by the newest message of each."""

    def up(slot: int) -> str:
        write(world.people[slot], reader, "Hm")
        return world.people[slot].username

    def take(_: int, key: str) -> None:
        reader.delete(f"/v1/chats/{key}")

    return Listing(f"/v1/chats?box={box}", reader, lambda item: item["with"]["username"], up, take, {"up": up})


def messages(world: World) -> Listing:
    """Messages of one chat, some deleted by one of the two."""
    one, other = world.people[0], world.teller

    def put(_: int) -> str:
        return write(one, other, "Hm")["id"]

    def take(_: int, key: str) -> None:
        other.delete(f"/v1/messages/{key}?for=me")

    def edit(slot: int) -> None:
        other.put(f"/v1/messages/{there[slot]}/reaction", {"emoji": "👍"})

    listing = Listing(f"/v1/chats/{one.username}/messages", other, by_id, put, take, {"up": edit})
    there = listing.there
    return listing


def own_posts(world: World) -> Listing:
    """Somebody's posts."""
    author = world.keeper

    def put(slot: int) -> str:
        return author.post_photo(seed=slot)["id"]

    def take(_: int, key: str) -> None:
        author.delete(f"/v1/posts/{key}")

    return Listing(f"/v1/users/{author.username}/posts", world.reader, by_id, put, take)


def mentioning(world: World) -> Listing:
    """Posts whose description names somebody."""

    def describe(words: str, slot: int) -> str:
        world.author.patch(f"/v1/posts/{world.posts[slot]}", {"description": words})
        return world.posts[slot]

    put = partial(describe, f"For @{world.reader.username}")
    up = partial(describe, f"Still for @{world.reader.username}")
    return Listing("/v1/me/mentioned", world.reader, by_id, put, lambda slot, _: describe("", slot), {"up": up})


def sessions(world: World) -> Listing:
    """Somebody's devices."""

    def put(_: int) -> str:
        return sign_in(world.stack, world.keeper.username).session["id"]

    def take(_: int, key: str) -> None:
        world.keeper.delete(f"/v1/me/sessions/{key}")

    return Listing("/v1/me/sessions", world.keeper, by_id, put, take)


def reports(world: World, state: str) -> Listing:
    """Reports: resolving one takes it out of the open ones, and puts it among the resolved."""

    # What is said of one post is resolved together.
    posts = world.posts if state == "open" else world.told

    def resolve(_: int, key: str) -> None:
        world.reader.post(f"/v1/reports/{key}/resolution", {"action": "dismiss"})

    def put(slot: int) -> str:
        made: str = reported(world.people[slot], "post", posts[slot])["id"]
        if state == "resolved":
            resolve(slot, made)
        return made

    return Listing(f"/v1/reports?state={state}", world.reader, by_id, put, resolve if state == "open" else None)


# By endpoint, and which of its lists.
LISTINGS: Final[dict[str, Callable[[World], Listing]]] = {
    # One's own reposts are in one's feed at once; others' take their time.
    "get_feed": lambda w: engaged(w.teller, "/v1/feed", w.posts, "repost"),
    "list_blocked": lambda w: relation(w.keeper, "/v1/me/blocked", w.people, "block"),
    "list_chats inbox": lambda w: chats(w, w.author, "inbox"),
    "list_chats requests": lambda w: chats(w, w.reader, "requests"),
    "list_comment_reactions": lambda w: engaging(w, f"/v1/comments/{w.comment['id']}", "reaction"),
    "list_commented_posts": commented,
    "list_followers": lambda w: relation(
        w.author, f"/v1/users/{w.author.username}/followers", w.people, "follow", of_theirs=True
    ),
    "list_following": lambda w: relation(w.author, f"/v1/users/{w.author.username}/following", w.people, "follow"),
    "list_mentioned_posts": mentioning,
    "list_messages": messages,
    "list_muted": lambda w: relation(w.author, "/v1/me/muted", w.people, "mute"),
    "list_notifications": notified,
    "list_post_comments": lambda w: said(
        w, f"/v1/posts/{w.posts[0]}/comments", lambda person: comment(person, {"id": w.posts[0]})
    ),
    "list_post_reactions": lambda w: engaging(w, f"/v1/posts/{w.posts[0]}", "reaction"),
    "list_reacted_posts": lambda w: engaged(w.reader, "/v1/me/reacted", w.posts, "reaction"),
    "list_replies": lambda w: said(
        w, f"/v1/comments/{w.comment['id']}/replies", lambda person: reply(person, w.comment)
    ),
    "list_reports open": lambda w: reports(w, "open"),
    "list_reports resolved": lambda w: reports(w, "resolved"),
    "list_reposts": lambda w: engaging(w, f"/v1/posts/{w.posts[0]}", "repost"),
    "list_saved_posts": lambda w: engaged(w.reader, "/v1/me/saved", w.posts, "save"),
    "list_sessions": sessions,
    "list_user_posts": own_posts,
}
