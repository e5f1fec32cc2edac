"""kill -9 of each process in the middle of the story: nothing is lost, and nothing happens twice."""

import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import neo4j
import pytest
from websockets.exceptions import WebSocketException

from infra.local.stack import Stack, ephemeral
from tests.client import Person, Refused, processes, sign_up, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

VICTIMS = ("valkey", "pubsub", "background", "postgres", "relay", "live", "api", "storage", "graph")
POSTS = 10
KILL_AFTER = 3
PATIENCE_SECONDS = 90.0
# What tells a client to try the same request again: no answer, a store that is down, a first try still under way.
PASSING = (409, 502, 503)


@pytest.fixture(scope="module")
def doomed() -> Iterator[Stack]:
    """A stack of its own: others' tests don't stand on what is killed here."""
    with ephemeral() as stack:
        yield stack


class Listener(threading.Thread):
    """A device that listens, and comes back with `resume` whenever its socket breaks."""

    def __init__(self, person: Person) -> None:
        super().__init__(daemon=True)
        self.person = person
        self.events: list[dict[str, Any]] = []
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._over.is_set():
            try:
                with self.person.live(ticket=False) as live:
                    # What came before the answer, live and missed, is in no order of seq; both are kept.
                    since = max((event["seq"] for event in self.events if "seq" in event), default=None)
                    if since is not None:
                        live.act("resume", {"after": since})
                    self.events += sorted(live.events, key=lambda event: event.get("seq", 0))
                    live.events = self.events
                    while not self._over.is_set():
                        try:
                            live.receive(0.2)
                        except TimeoutError:
                            continue
            except (OSError, WebSocketException, TimeoutError, Refused):
                self._over.wait(0.1)

    def finish(self) -> list[dict[str, Any]]:
        self._over.set()
        self.join(10)
        return self.events

    def posts(self) -> list[str]:
        return [event["data"]["id"] for event in self.events if event["event"] == "feed.post_created"]


def persist(person: Person, method: str, path: str, body: Any = None, **fields: str) -> httpx.Response:
    """What a good client does: the same request again until it is answered for good."""

    def attempt() -> httpx.Response | None:
        try:
            answer = person.ask(method, path, body, **fields)
        except httpx.TransportError:
            return None
        return None if answer.status_code in PASSING else answer

    return wait_until(lambda: [answer for answer in [attempt()] if answer is not None], PATIENCE_SECONDS)[0]


def items(person: Person, path: str) -> list[dict[str, Any]]:
    answer = persist(person, "GET", f"{path}?limit=50")
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


def publish(author: Person, medium: dict[str, Any], description: str) -> None:
    body = {"type": "photo:square", "media": [medium], "description": description}
    answer = persist(author, "POST", "/v1/posts", body, idempotency_key=secrets.token_hex(8))
    if answer.status_code == 201:
        return
    # The first try was committed, and its answer lost with the process or the connection.
    assert answer.status_code == 422, answer.text
    assert {fault["code"] for fault in answer.json()["errors"]} == {"already_attached"}


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_kill_in_the_middle(doomed: Stack, victim: str) -> None:
    with ThreadPoolExecutor(4) as threads:
        author, fan, late, newcomer = threads.map(lambda _: sign_up(doomed), range(4))
    fan.follow(author.username)
    media = [author.upload_photo(seed) for seed in range(POSTS)]
    listener = Listener(fan)
    for number in range(KILL_AFTER):
        publish(author, media[number], f"{number} @{fan.username}")
    wait_until(lambda: len(listener.posts()) == KILL_AFTER, PATIENCE_SECONDS)

    pid = doomed.reread().pids[victim]
    for process in processes(doomed, victim):
        process.kill()

    assert persist(late, "PUT", f"/v1/users/{author.username}/follow").status_code == 200
    for number in range(KILL_AFTER, POSTS):
        publish(author, media[number], f"{number} @{fan.username}")
    assert persist(newcomer, "PUT", f"/v1/users/{late.username}/follow").status_code == 200
    wait_until(lambda: doomed.reread().pids[victim] != pid, PATIENCE_SECONDS)

    posts = items(author, f"/v1/users/{author.username}/posts")
    expected = [f"{number} @{fan.username}" for number in reversed(range(POSTS))]
    assert [post["description"] for post in posts] == expected
    for reader in (author, fan, late):
        wait_until(lambda reader=reader: items(reader, "/v1/feed") == posts, PATIENCE_SECONDS)
    wait_until(lambda: len(items(fan, "/v1/notifications")) == POSTS, PATIENCE_SECONDS)
    assert {(n["type"], n["actor_count"]) for n in items(fan, "/v1/notifications")} == {("mention", 1)}
    (followed,) = wait_until(lambda: ended(items(author, "/v1/notifications"), 2), PATIENCE_SECONDS)
    assert {actor["username"] for actor in followed["actors"]} == {fan.username, late.username}
    counts = persist(author, "GET", "/v1/me").json()["counts"]
    assert counts == {"posts": POSTS, "followers": 2, "following": 0}

    told_live(listener, [post["id"] for post in reversed(posts)], victim)
    wait_until(lambda: in_graph(doomed, author) == {fan.username, late.username}, PATIENCE_SECONDS)
    assert httpx.get(f"{doomed.console}/dead-letters.json", trust_env=False).json()["items"] == []
    # And a stranger comes in as before.
    sign_up(doomed)


def ended(groups: list[dict[str, Any]], actors: int) -> list[dict[str, Any]]:
    """The groups once the first has so many actors."""
    return groups if groups and groups[0]["actor_count"] == actors else []


def told_live(listener: Listener, posts: list[str], victim: str) -> None:
    """Each post once; or `resync`, if what was kept for the device may have gone with Redis."""
    resynced = lambda: any(event["event"] == "resync" for event in listener.events)  # noqa: E731
    wait_until(lambda: set(listener.posts()) == set(posts) or resynced(), PATIENCE_SECONDS)
    events = listener.finish()
    assert victim == "valkey" or not resynced()
    assert len(listener.posts()) == len(set(listener.posts()))
    if not resynced():
        # Events of different posts come in any order: Pub/Sub has none.
        assert set(listener.posts()) == set(posts)
    numbers = [event["seq"] for event in events if event.get("seq") is not None]
    assert numbers == sorted(set(numbers))


def in_graph(stack: Stack, author: Person) -> set[str]:
    """Who follows the author, by the graph."""
    env = stack.env
    query = "MATCH (a:User)-[:FOLLOWS]->(b:User {username: $name}) RETURN a.username AS name"
    with (
        neo4j.GraphDatabase.driver(env["NEO4J_URI"], auth=(env["NEO4J_USER"], env["NEO4J_PASSWORD"])) as driver,
        driver.session(database=env["NEO4J_DATABASE"]) as session,
    ):
        return session.execute_read(lambda tx: {row["name"] for row in tx.run(query, name=author.username)})
