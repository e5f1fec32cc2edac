"""kill -9 of each process in the middle of the story: nothing is lost, and nothing happens twice."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import httpx
import neo4j
import pytest

from infra.client import Client, Event, Live
from infra.local.stack import Stack, ephemeral
from tests.client import Person, processes, sign_up, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

VICTIMS = ("valkey", "pubsub", "background", "postgres", "relay", "live", "api", "storage", "graph")
POSTS = 10
KILL_AFTER = 3
PATIENCE_SECONDS = 90.0


@pytest.fixture(scope="module")
def doomed() -> Iterator[Stack]:
    """A stack of its own: others' tests don't stand on what is killed here."""
    with ephemeral() as stack:
        yield stack


def patient(person: Person) -> Client:
    """The same person as a good client has them: it asks again until it is answered for good."""
    return Client(person.url, tokens=person.tokens, patience=PATIENCE_SECONDS)


def publish(author: Client, medium: dict[str, Any], description: str) -> None:
    author.post("/v1/posts", {"type": "photo:square", "media": [medium], "description": description})


class Heard:
    """What a device has heard."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._events: list[Event] = []

    def events(self) -> list[Event]:
        with suppress(TimeoutError):
            while True:
                self._events.append(self._live.take(0))
        return self._events

    def posts(self) -> list[str]:
        return [event.data.id for event in self.events() if event.name == "feed.post_created"]


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_kill_in_the_middle(doomed: Stack, victim: str) -> None:
    with ThreadPoolExecutor(4) as threads:
        people = list(threads.map(lambda _: sign_up(doomed), range(4)))
    author_name, fan_name, late_name, _ = [person.username for person in people]
    media = [people[0].upload_photo(seed) for seed in range(POSTS)]
    author, fan, late, newcomer = map(patient, people)
    fan.put(f"/v1/users/{author_name}/follow")
    with Live(fan, doomed.live) as live:
        heard = Heard(live)
        for number in range(KILL_AFTER):
            publish(author, media[number], f"{number} @{fan_name}")
        wait_until(lambda: len(heard.posts()) == KILL_AFTER, PATIENCE_SECONDS)

        pid = doomed.reread().pids[victim]
        for process in processes(doomed, victim):
            process.kill()

        late.put(f"/v1/users/{author_name}/follow")
        for number in range(KILL_AFTER, POSTS):
            publish(author, media[number], f"{number} @{fan_name}")
        newcomer.put(f"/v1/users/{late_name}/follow")
        wait_until(lambda: doomed.reread().pids[victim] != pid, PATIENCE_SECONDS)

        posts = items(author, f"/v1/users/{author_name}/posts")
        expected = [f"{number} @{fan_name}" for number in reversed(range(POSTS))]
        assert [post["description"] for post in posts] == expected
        for reader in (author, fan, late):
            wait_until(lambda reader=reader: items(reader, "/v1/feed") == posts, PATIENCE_SECONDS)
        wait_until(lambda: len(items(fan, "/v1/notifications")) == POSTS, PATIENCE_SECONDS)
        assert {(n["type"], n["actor_count"]) for n in items(fan, "/v1/notifications")} == {("mention", 1)}
        (followed,) = wait_until(lambda: ended(items(author, "/v1/notifications"), 2), PATIENCE_SECONDS)
        assert {actor["username"] for actor in followed["actors"]} == {fan_name, late_name}
        assert author.get("/v1/me")["counts"] == {"posts": POSTS, "followers": 2, "following": 0}

        told_live(heard, [post["id"] for post in reversed(posts)], victim)
    wait_until(lambda: in_graph(doomed, author_name) == {fan_name, late_name}, PATIENCE_SECONDS)
    assert httpx.get(f"{doomed.console}/dead-letters.json", trust_env=False).json()["items"] == []
    # And a stranger comes in as before.
    sign_up(doomed)


def items(client: Client, path: str) -> list[dict[str, Any]]:
    return client.get(path, limit=50)["items"]


def ended(groups: list[dict[str, Any]], actors: int) -> list[dict[str, Any]]:
    """The groups once the first has so many actors."""
    return groups if groups and groups[0]["actor_count"] == actors else []


def told_live(heard: Heard, posts: list[str], victim: str) -> None:
    """Each post once; or `resync`, if what was kept for the device may have gone with Redis."""
    resynced = lambda: any(event.name == "resync" for event in heard.events())  # noqa: E731
    wait_until(lambda: set(heard.posts()) == set(posts) or resynced(), PATIENCE_SECONDS)
    assert victim == "valkey" or not resynced()
    assert len(heard.posts()) == len(set(heard.posts()))
    if not resynced():
        # Events of different posts come in any order: Pub/Sub has none.
        assert set(heard.posts()) == set(posts)
    numbers = [event.seq for event in heard.events() if event.seq is not None]
    assert numbers == sorted(set(numbers))


def in_graph(stack: Stack, author: str) -> set[str]:
    """Who follows the author, by the graph."""
    env = stack.env
    query = "MATCH (a:User)-[:FOLLOWS]->(b:User {username: $name}) RETURN a.username AS name"
    with (
        neo4j.GraphDatabase.driver(env["NEO4J_URI"], auth=(env["NEO4J_USER"], env["NEO4J_PASSWORD"])) as driver,
        driver.session(database=env["NEO4J_DATABASE"]) as session,
    ):
        return session.execute_read(lambda tx: {row["name"] for row in tx.run(query, name=author)})
