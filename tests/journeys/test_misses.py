"""What many miss at once is loaded once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from shared.kernel import cache, ids
from shared.profiles import reads as profiles
from tests.client import Person, trips

READERS = 50


def at_once(reader: Person, path: str, threads: ThreadPoolExecutor) -> list[httpx.Response]:
    answers = list(threads.map(lambda _: reader.ask("GET", path), range(READERS)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    return answers


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("/v1/posts/{post}", ["post:{post}"]),
        ("/v1/users/{name}", ["card:{user}", "profile:{user}"]),
        ("/v1/users/{name}", ["relations:{reader}"]),
        ("/v1/users/{name}/posts", ["posts:{user}"]),
        ("/v1/users/{name}/followers", ["followers:{user}"]),
        ("/v1/users/{name}/followers", ["followed_by:{reader}"]),
        ("/v1/users/{name}/following", ["following:{user}"]),
        ("/v1/me/blocked", ["blocked:{reader}"]),
        ("/v1/feed", ["feed:{reader}"]),
        ("/v1/notifications", ["notifications:{reader}"]),
        ("/v1/posts/{post}", ["engaged:{reader}"]),
        ("/v1/posts/{post}/reactions", ["reactions:{post}"]),
        ("/v1/me/mentioned", ["mentioning:{reader}"]),
    ],
)
def test_readers_of_one_thing_share_one_query(person: Callable[[], Person], path: str, keys: list[str]) -> None:
    author, reader = person(), person()
    reader.follow(author.username)
    post = author.post_photo("Wanted")
    found = profiles.named([author.username, reader.username])
    names = {"post": post["id"], "name": author.username}
    names |= {"user": ids.encode(found[author.username]), "reader": ids.encode(found[reader.username])}
    with ThreadPoolExecutor(READERS) as threads:
        # Every connection is open, and all else is in Redis.
        at_once(reader, path.format(**names), threads)
        asked = 0
        for _ in range(3):
            cache.run_sync(("DEL", *[key.format(**names) for key in keys]))
            asked += sum(trips(answer, "postgres") for answer in at_once(reader, path.format(**names), threads))
    assert 3 <= asked <= 6


def test_a_list_that_redis_lost_is_asked_of_postgres_once(alice: Person) -> None:
    alice.post_photo("Listed")
    user_id = ids.encode(profiles.named([alice.username])[alice.username])
    # Of a feed it is also who is merged into it.
    for path, key, asked in (("/v1/feed", "feed", 2), (f"/v1/users/{alice.username}/posts", "posts", 1)):
        alice.get(path)
        cache.run_sync(("DEL", f"{key}:{user_id}"))
        assert trips(alice.ask("GET", path), "postgres") == asked
        assert trips(alice.ask("GET", path), "postgres") == 0
