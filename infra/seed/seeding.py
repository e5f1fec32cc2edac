"""A world on its way into a stack, step by step. What an earlier run has made is found, and not made again."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from rich.progress import Progress

from infra.client import Client, Refused
from infra.client.mailbox import Mailbox
from infra.local.stack import Stack
from infra.photos import Photo, make_photo, make_picture
from infra.seed.chatting import hold, upload
from infra.seed.films import Film, make_film
from infra.seed.talk import Remark
from infra.seed.world import PASSWORD, PlannedReport, Resident, World
from shared.media.model import Purpose
from shared.profiles.model import Profile

T = TypeVar("T")
Found = defaultdict[tuple[str | None, ...], list[dict[str, Any]]]
THREADS = 8


class Seeding:
    """Who is signed in, and what became of the posts, each by its place in the world's."""

    def __init__(self, stack: Stack, world: World, progress: Progress) -> None:
        self.stack = stack
        self.world = world
        self.progress = progress
        self.people: dict[str, Client] = {}
        self.returned: set[str] = set()
        self.known: dict[int, dict[str, Any]] = {}
        self.posts: dict[int, str] = {}
        self.first_comments: dict[int, str] = {}

    def run(self) -> None:
        """Make all of it. Raises Refused, OSError or httpx.HTTPError where the stack fails."""
        world = self.world
        self._each("accounts", world.residents, self._arrive)
        self._each("follows", world.follows, lambda pair: self._put(pair[0], f"/v1/users/{pair[1]}/follow"))
        self._find_posts()
        self._each("posts", range(len(world.posts)), self._post)
        self._each("comments", range(len(world.posts)), self._talk_about)
        self._each("reactions", self._engagements(), lambda act: self._put(*act))
        self._each("chats", world.chats, lambda chat: hold(chat, self.people, self.returned))
        # Last, as they hide what comes after them.
        self._each("blocks", world.blocks, lambda pair: self._put(pair[0], f"/v1/users/{pair[1]}/block"))
        self._each("mutes", world.mutes, lambda pair: self._put(pair[0], f"/v1/users/{pair[1]}/mute"))
        self._each("reports", world.reports, self._report)
        for person in self.people.values():
            person.close()

    def _each(self, what: str, items: Iterable[T], act: Callable[[T], None]) -> None:
        """Do it to all, some at a time. Raises what the first that fails raises."""
        items = list(items)
        task = self.progress.add_task(what, total=len(items))
        with ThreadPoolExecutor(THREADS) as threads:
            try:
                for _ in threads.map(act, items):
                    self.progress.advance(task)
            except BaseException:
                threads.shutdown(cancel_futures=True)
                raise

    def _put(self, who: str, path: str, body: Any = None) -> None:
        self.people[who].put(path, body)

    def _arrive(self, one: Resident) -> None:
        person = self.people[one.username] = Client(self.stack.api)
        there = _profile(person, one.username)
        if there is None:
            account = {"username": one.username, "password": PASSWORD, "name": one.name, "bio": one.bio}
            mailbox = Mailbox(self.stack.console, f"{one.username}@example.com")
            person.sign_up(mailbox.address, mailbox.next_code(), account | {"birthday": one.birthday})
        else:
            person.sign_in(one.username, PASSWORD)
            self.returned.add(one.username)
        if one.links:
            person.patch("/v1/me", {"links": list(one.links)})
        if one.unwanted:
            person.patch("/v1/me/notification-settings", dict.fromkeys(one.unwanted, False))
        if one.picture is not None and (there is None or there.user.picture is None):
            pictures = make_picture(one.picture)
            names = person.upload([(size, "image/jpeg", data) for size, data in pictures.items()], "profile_picture")
            person.put("/v1/me/picture", dict(zip(pictures, names, strict=True)))

    def _find_posts(self) -> None:
        """Which of the posts are there: an earlier run may have been cut short anywhere."""
        there: Found = defaultdict(list)
        for name in self.returned:
            for post in self.people[name].items(f"/v1/users/{name}/posts"):
                there[name, post["type"], post["description"]].append(post)
        for place, post in enumerate(self.world.posts):
            keys = [(post.author, post.type, text) for text in (post.edited, post.description)]
            if found := _taken(there, keys):
                self.known[place] = found

    def _post(self, place: int) -> None:
        planned = self.world.posts[place]
        author = self.people[planned.author]
        post = self.known.get(place)
        if post is None:
            make = make_photo if planned.type.startswith("photo") else make_film
            media = [
                _medium(author, make(medium.seed, planned.type), "post") | {"alt_text": medium.alt_text}
                for medium in planned.media
            ]
            body = {"type": planned.type, "media": media, "description": planned.description}
            post = author.post("/v1/posts", body)
        self.posts[place] = post["id"]
        if planned.edited not in (None, post["description"]):
            author.patch(f"/v1/posts/{post['id']}", {"description": planned.edited})

    def _talk_about(self, place: int) -> None:
        planned = self.world.posts[place]
        path = f"/v1/posts/{self.posts[place]}/comments"
        ids = self._say(path, planned.talk, self.people[planned.author], was_there=place in self.known)
        if ids:
            self.first_comments[place] = ids[0]

    def _say(self, path: str, remarks: list[Remark], reader: Client, *, was_there: bool) -> list[str]:
        """Have it said at `path`, with all that belongs below it. Gives the ids."""
        there: Found = defaultdict(list)
        for one in reader.items(path, 100) if was_there else ():
            there[one["author"] and one["author"]["username"], one["text"]].append(one)
        ids: list[str] = []
        for remark in remarks:
            keys = [(remark.author, remark.edited), (remark.author, remark.text)]
            # A tombstone doesn't say whose it was: those of one place come in the order in which they were said.
            found = _taken(there, [*keys, (None, None)] if remark.deleted else keys)
            comment = found or self._comment(path, remark)
            ids.append(comment["id"])
            own = f"/v1/comments/{comment['id']}"
            for name, emoji in remark.reactions:
                self._put(name, f"{own}/reaction", {"emoji": emoji})
            self._say(f"{own}/replies", remark.replies, reader, was_there=found is not None)
            if remark.edited not in (None, comment["text"]):
                self.people[remark.author].patch(own, {"text": remark.edited})
            if remark.deleted and comment["author"] is not None:
                self.people[remark.author].delete(own)
        return ids

    def _comment(self, path: str, remark: Remark) -> dict[str, Any]:
        author = self.people[remark.author]
        body: dict[str, Any] = {"text": remark.text}
        if remark.photo is not None:
            body["attachment"] = _medium(author, make_photo(remark.photo), "comment")
        return author.post(path, body)

    def _engagements(self) -> Iterator[tuple[str, str, Any]]:
        for place, post in enumerate(self.world.posts):
            path = f"/v1/posts/{self.posts[place]}"
            yield from ((name, f"{path}/reaction", {"emoji": emoji}) for name, emoji in post.reactions)
            yield from ((name, f"{path}/save", None) for name in post.saves)
            yield from ((name, f"{path}/repost", None) for name in post.reposts)

    def _report(self, planned: PlannedReport) -> None:
        id = {
            "user": self.world.posts[planned.post].author,
            "post": self.posts[planned.post],
            "comment": self.first_comments[planned.post],
        }[planned.type]
        body = {"subject": {"type": planned.type, "id": id}, "reason": planned.reason, "detail": planned.detail}
        self.people[planned.reporter].post("/v1/reports", body)


def _medium(owner: Client, made: Photo | Film, purpose: Purpose) -> dict[str, Any]:
    """A photo or film as what a post or comment has attached, uploaded."""
    return upload(owner, made, purpose) | {"width": made.width, "height": made.height}


def _profile(visitor: Client, username: str) -> Profile | None:
    """Somebody's profile; None where there is no such user yet."""
    try:
        return visitor.get(f"/v1/users/{username}", into=Profile)
    except Refused as refused:
        if refused.status != 404:
            raise
        return None


def _taken(there: Found, keys: list[tuple[str | None, ...]]) -> dict[str, Any] | None:
    """The oldest that is there under one of the keys, taken out: lists begin with the newest."""
    return next((there[key].pop() for key in keys if there[key]), None)
