"""Who is there when it is measured: readers, an author with posts, and requests in their names."""

import itertools
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from infra.bench.load import request
from infra.local.stack import Stack
from tests.client import Person, sign_up, wait_until

READERS = 64
# So few that each is mentioned by more posts than make a page, two by each post: as many as posts commonly mention.
MENTIONED = 6
AUTHORS = 5
POSTS_EACH = 14  # in all twice as many as there are connections: writes under way at one time are of different posts
PAGE = 20


class People:
    """Readers who follow all authors; each author has posts, each of which mentions two of a few readers."""

    def __init__(self, stack: Stack) -> None:
        with ThreadPoolExecutor(8) as threads:
            everyone = list(threads.map(lambda _: sign_up(stack), range(READERS + AUTHORS)))
            self.readers, self.authors = everyone[:READERS], everyone[READERS:]
            pairs = [(reader, author) for reader in self.readers for author in self.authors]
            list(threads.map(lambda pair: pair[0].follow(pair[1].username), pairs))
            self.mentioned = self.readers[:MENTIONED]
            names = itertools.cycle(f"@{reader.username}" for reader in self.mentioned)
            texts = [f"Measured {next(names)} {next(names)}" for _ in range(AUTHORS * POSTS_EACH)]
            # One more than a page, so that a page is full and has a successor.
            posters = self.authors * POSTS_EACH
            self.posts = list(threads.map(lambda author, text: author.post_photo(text), posters, texts))
            # One more than a page here too.
            said = itertools.islice(itertools.cycle(self.readers), PAGE + 1)
            talk = f"/v1/posts/{self.posts[0]['id']}/comments"
            list(threads.map(lambda reader: reader.post(talk, {"text": "Measured"}), said))
        for path, people in (("/v1/feed", self.readers), ("/v1/notifications", self.mentioned)):
            for person in people:
                wait_until(lambda path=path, person=person: len(person.get(path)["items"]) == PAGE, 60)

    def upload(self, count: int) -> list[tuple[Person, dict[str, Any]]]:
        """So many photos, uploaded by the authors in turn: (author, medium)."""
        authors = list(itertools.islice(itertools.cycle(self.authors), count))
        with ThreadPoolExecutor(4) as threads:
            return list(zip(authors, threads.map(lambda author: author.upload_photo(), authors), strict=True))

    def one_post(self) -> list[bytes]:
        """GET of single posts."""
        return [_as(reader, "GET", f"/v1/posts/{post['id']}") for post in self.posts for reader in self.readers]

    def profile(self) -> list[bytes]:
        """GET of profiles."""
        names = [person.username for person in self.authors]
        return [_as(reader, "GET", f"/v1/users/{name}") for name in names for reader in self.readers]

    def feed(self) -> list[bytes]:
        """GET of a feed's first page of 20."""
        return [_as(reader, "GET", f"/v1/feed?limit={PAGE}") for reader in self.readers]

    def notifications(self) -> list[bytes]:
        """GET of 20 notifications."""
        return [_as(reader, "GET", f"/v1/notifications?limit={PAGE}") for reader in self.mentioned]

    def comments(self) -> list[bytes]:
        """GET of 20 comments."""
        return [_as(reader, "GET", f"/v1/posts/{self.posts[0]['id']}/comments?limit={PAGE}") for reader in self.readers]

    def followers(self) -> list[bytes]:
        """GET of 20 followers."""
        paths = [f"/v1/users/{person.username}/followers?limit={PAGE}" for person in self.authors]
        return [_as(reader, "GET", path) for path in paths for reader in self.readers]

    def react(self) -> list[bytes]:
        """PUT and later DELETE of reactions to posts: each request changes something."""
        return self._engage("reaction", {"emoji": "👍🏽"})

    def save(self) -> list[bytes]:
        """PUT and later DELETE of saves of posts: each request changes something."""
        return self._engage("save")

    def _engage(self, relation: str, body: Any = None) -> list[bytes]:
        # Those next to each other are of different people and about different posts: none waits for another's row.
        count = len(self.posts)
        pairs = [
            (reader, self.posts[(place + turn) % count]["id"])
            for turn in range(count)
            for place, reader in enumerate(self.readers)
        ]
        return [
            _as(reader, method, f"/v1/posts/{post_id}/{relation}", sent)
            for method, sent in (("PUT", body), ("DELETE", None))
            for reader, post_id in pairs
        ]

    def comment(self) -> list[bytes]:
        """POST of comments, those under way at one time by different people on different posts."""
        # Not on the one whose comments are listed.
        pairs = zip(self.readers * 2, itertools.cycle(self.posts[1:]), strict=False)
        return [_as(a, "POST", f"/v1/posts/{post['id']}/comments", {"text": "Measured"}) for a, post in pairs]

    def send(self) -> list[bytes]:
        """POST of messages, those under way at one time in chats of different people."""
        return [
            _as(
                a,
                "POST",
                f"/v1/chats/{b.username}/messages",
                {"client_id": secrets.token_hex(8), "content": {"type": "text", "text": "Measured"}},
            )
            for a, b in _pairings(self.readers) * 5
        ]

    def follow(self) -> list[bytes]:
        """PUT and later DELETE of follows among readers: each request changes something.

        Requests under way at one time are of different people, as they nearly always are among millions.
        """
        pairs = _pairings(self.readers)
        return [_as(a, method, f"/v1/users/{b.username}/follow") for method in ("PUT", "DELETE") for a, b in pairs]

    def create_post(self, count: int) -> list[bytes]:
        """POST of posts, with photos uploaded now."""
        return [
            _as(author, "POST", "/v1/posts", {"type": "photo:square", "media": [medium], "description": "Measured"})
            for author, medium in self.upload(count)
        ]


def _pairings(people: list[Person]) -> list[tuple[Person, Person]]:
    """Every two of an even number of people once, so that those next to each other are of different people."""
    fixed, *others = people
    half = len(people) // 2
    found: list[tuple[Person, Person]] = []
    for turn in range(len(others)):
        ring = [fixed, *others[turn:], *others[:turn]]
        found += zip(ring[:half], reversed(ring[half:]), strict=True)
    return found


def _as(person: Person, method: str, path: str, body: Any = None) -> bytes:
    encoded = None if body is None else msgspec.json.encode(body)
    return request(method, path, person.session["access_token"], encoded)
