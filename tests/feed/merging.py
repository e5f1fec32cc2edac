"""A stack where a few followers are many, and what a feed there is made of."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from infra.local.stack import Stack, ephemeral
from shared.feed import store
from shared.feed.model import FEEDS
from shared.kernel import cache, clock, db, graph
from shared.presence import reads as presence
from shared.profiles import reads as profiles
from tests.client import Person
from tests.servers import using


@contextmanager
def merging_from(followers: int) -> Iterator[Stack]:
    """A stack of its own, and this process part of it: authors of so many followers are merged in on read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEED_MERGE_FOLLOWERS", str(followers))
        patch.setattr(graph, "_driver", None)
        with ephemeral() as stack, using(stack.env):
            yield stack


def id_of(person: Person) -> int:
    return profiles.named([person.username])[person.username]


def is_away(person: Person) -> bool:
    """Whether they are here no more."""
    (latest,) = cache.run_sync(presence.ask(id_of(person)))
    return presence.until_in(latest) < clock.now_ms()


def is_settled(user_id: int) -> bool:
    """Whether nothing of an author's is fanned out."""
    with db.connection() as conn:
        return store.IS_SETTLED.maybe(conn, user_id=user_id) is not None


def kept_of(reader: Person) -> list[str]:
    """What Redis keeps of a reader's feed: entries, and marks of whom to merge in."""
    return [member.decode() for member in cache.run_sync(("ZRANGE", FEEDS.key(id_of(reader)), 0, -1))[0]]
