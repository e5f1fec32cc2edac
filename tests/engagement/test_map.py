"""The map of what a viewer has done: complete from its floor on, asked of Postgres once below it, and it converges."""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from shared.engagement import projection, reads
from shared.engagement.model import NOTHING, Engagement
from shared.kernel import cache, db, ids, ledger
from shared.profiles import reads as profiles
from tests.client import Person, trips, wait_until
from tests.feed.posts import insert_posts

ENGAGE = db.Statement(
    """INSERT INTO engagements (subject_id, user_id, kind, emoji, reaction_id)
       SELECT id, :user_id, 'post', '🦊', id FROM unnest(CAST(:ids AS bigint[])) AS made (id)"""
)


def id_of(person: Person) -> int:
    return profiles.named([person.username])[person.username]


def taken(viewer: int, subjects: Sequence[int]) -> tuple[dict[int, Engagement], int]:
    """What a read finds, and in how many trips to Postgres."""

    async def take() -> dict[int, Engagement]:
        try:
            (reply,) = await cache.run(reads.ask(viewer, subjects))
            return await reads.take(viewer, subjects, reply)
        finally:
            cache.disconnect()

    counted = ledger.open_ledger()
    found = asyncio.run(take())
    return found, counted["postgres"].trips if "postgres" in counted else 0


def test_below_its_floor_postgres_is_asked_once(alice: Person, bob: Person) -> None:
    user_id = id_of(alice)
    untouched, *old = [ids.decode(post) for post in insert_posts(bob, 3, days_ago=30)]
    newer = [ids.decode(post) for post in insert_posts(bob, projection.FILLED_WITH, days_ago=10)]
    with db.connection() as conn:
        ENGAGE.run(conn, user_id=user_id, ids=[*old, *newer])
    subjects = [*newer[:5], newer[-1], *old, untouched, ids.new_id()]
    reacted = Engagement("🦊")
    expected = dict.fromkeys(subjects, reacted) | {untouched: NOTHING, subjects[-1]: NOTHING}
    assert taken(user_id, subjects) == (expected, 2)
    assert taken(user_id, subjects) == (expected, 0)


def test_a_map_that_old_subjects_made_large_is_begun_anew(
    alice: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_id = id_of(alice)
    old = [ids.decode(post) for post in insert_posts(bob, 30, days_ago=30)]
    newer = [ids.decode(post) for post in insert_posts(bob, 10, days_ago=10)]
    monkeypatch.setattr(projection, "FILLED_WITH", 10)
    monkeypatch.setattr(projection, "MAX_FIELDS", 25)
    with db.connection() as conn:
        ENGAGE.run(conn, user_id=user_id, ids=newer)
    assert taken(user_id, old) == (dict.fromkeys(old, NOTHING), 2)
    assert cache.run_sync(("EXISTS", projection.key(user_id))) == [0]
    assert taken(user_id, newer) == (dict.fromkeys(newer, Engagement("🦊")), 1)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_changes_converge_in_any_order(alice: Person, order: tuple[int, ...]) -> None:
    user_id, subject = id_of(alice), ids.new_id()
    states = [Engagement("🦊"), Engagement("🦊", saved=True), Engagement("👍", saved=True, reposted=True)]
    changes = [reads.changed("save", user_id, subject, state, version) for version, state in enumerate(states, 1)]
    taken(user_id, [subject])
    for index in order:
        cache.run_sync(*changes[index])
    assert taken(user_id, [subject]) == ({subject: states[-1]}, 0)


def test_what_is_undone_stays_undone_when_an_older_fill_comes_late(alice: Person, bob: Person) -> None:
    post = bob.post_photo("Mine")
    user_id, subject = id_of(alice), ids.decode(post["id"])
    alice.put(f"/v1/posts/{post['id']}/save")
    late = reads.changed("save", user_id, subject, Engagement(saved=True), 1)
    alice.delete(f"/v1/posts/{post['id']}/save")
    cache.run_sync(("DEL", projection.key(user_id)))
    assert alice.get(f"/v1/posts/{post['id']}")["viewer"]["saved"] is False
    cache.run_sync(*late)
    assert alice.get(f"/v1/posts/{post['id']}")["viewer"]["saved"] is False


def test_what_redis_lost_is_read_again(alice: Person, bob: Person) -> None:
    post = bob.post_photo("Mine")
    alice.follow(bob.username)
    done = alice.put(f"/v1/posts/{post['id']}/reaction", {"emoji": "👍"})
    shown: list[Any] = []
    wait_until(lambda: trips(alice.ask("GET", "/v1/feed"), "postgres") == 0)
    cache.run_sync(("DEL", projection.key(id_of(alice))))
    for expected in (1, 0):
        answer = alice.ask("GET", "/v1/feed")
        assert trips(answer, "postgres") == expected
        shown += answer.json()["items"]
    assert shown == [done, done]
