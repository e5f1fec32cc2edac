"""From a write to its event on a follower's socket, one after another: a light load."""

import time

from infra.bench.people import People

SAMPLES = 100
WARM_UP = 5


def measure(people: People) -> list[float]:
    """Milliseconds from sending a post to having its event, sorted."""
    reader = people.readers[0]
    found: list[float] = []
    with reader.live() as live:
        for author, medium in people.upload(SAMPLES + WARM_UP):
            live.events.clear()
            body = {"type": "photo:square", "media": [medium], "description": "Measured"}
            began = time.perf_counter()
            author.post("/v1/posts", body)
            live.event("feed.post_created")
            found.append((time.perf_counter() - began) * 1000)
    return sorted(found[WARM_UP:])
