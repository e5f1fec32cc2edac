"""From a write to its event on another's socket, one after another: a light load."""

import secrets
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from infra.bench.people import People
from infra.bench.report import Measure
from tests.client import Person

SAMPLES: Final = 100
WARM_UP: Final = 5
# The budget of DESIGN, in milliseconds.
AT_MOST: Final = 100


def measure(people: People) -> list[Measure]:
    """From a post to a follower's socket, and from a message to the other's."""
    reader, writer = people.readers[:2]
    for one, other in ((reader, writer), (writer, reader)):
        one.follow(other.username)
    chat = f"/v1/chats/{reader.username}/messages"
    posts = people.upload(SAMPLES + WARM_UP)
    return [
        *_waits("post", reader, "feed.post_created", (_posting(*one) for one in posts)),
        *_waits("message", reader, "message.created", (_sending(writer, chat) for _ in posts)),
    ]


def _posting(author: Person, medium: dict[str, Any]) -> Callable[[], object]:
    body = {"type": "photo:square", "media": [medium], "description": "Measured"}
    return lambda: author.post("/v1/posts", body)


def _sending(writer: Person, chat: str) -> Callable[[], object]:
    body = {"client_id": secrets.token_hex(8), "content": {"type": "text", "text": "Measured"}}
    return lambda: writer.post(chat, body)


def _waits(name: str, reader: Person, event: str, writes: Iterable[Callable[[], object]]) -> list[Measure]:
    """How long from asking until the event is there."""
    found: list[float] = []
    with reader.live() as live:
        for write in writes:
            live.events.clear()
            began = time.perf_counter()
            write()
            live.event(event)
            found.append((time.perf_counter() - began) * 1000)
    waits = sorted(found[WARM_UP:])
    return [
        Measure(f"{name} → socket p50", waits[len(waits) // 2], "ms"),
        Measure(f"{name} → socket p99", waits[len(waits) * 99 // 100], "ms", AT_MOST, at_most=True),
    ]
