"""What is counted is what is there, whatever many do at once and in whatever order it is heard of."""

import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import main
from infra.local.stack import Stack
from shared.engagement.model import Engaged, PostReacted, PostReposted, PostSaved
from shared.kernel import cache, db, ids
from shared.kernel.events import REACTIONS
from tests.client import Person, sign_up, standing_still, wait_until

EMOJI = ("👍", "❤️", "🦊")
PARTS: dict[str, type[Engaged]] = {"reaction": PostReacted, "save": PostSaved, "repost": PostReposted}
# Who of three does what, or undoes it; a reaction with which emoji.
Act = tuple[int, str, bool, int]
ACTS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from([*PARTS]), st.booleans(), st.integers(0, 2)), min_size=3, max_size=12
)


class EngagementRow(msgspec.Struct, frozen=True):
    emoji: str | None
    saved: bool
    reposted: bool


class PayloadRow(msgspec.Struct, frozen=True):
    topic: str
    payload: bytes


OF_POST = db.Statement(
    "SELECT emoji, save_id IS NOT NULL, repost_id IS NOT NULL FROM engagements WHERE subject_id = :post_id",
    EngagementRow,
)
WAITING = db.Statement(
    "SELECT topic, payload FROM outbox WHERE topic LIKE 'post_re%' OR topic = 'post_saved'", PayloadRow
)


@pytest.fixture(scope="module")
def trio(stack: Stack) -> list[Person]:
    for module in main.EVENT_TARGETS:
        import_module(module)
    one, two, three = (sign_up(stack) for _ in range(3))
    two.follow(one.username)
    three.follow(two.username)
    return [one, two, three]


def do(person: Person, post_id: str, act: Act) -> dict[str, Any]:
    _, part, done, emoji = act
    path = f"/v1/posts/{post_id}/{part}"
    return person.put(path, {"emoji": EMOJI[emoji]} if part == "reaction" else None) if done else person.delete(path)


def assert_counted(post: dict[str, Any]) -> None:
    """The counts of a post are those of its rows."""
    with db.connection() as conn:
        rows = OF_POST.all(conn, post_id=ids.decode(post["id"]))
    reactions = Counter(row.emoji for row in rows if row.emoji is not None)
    assert post["reactions"] == dict(reactions)
    assert post["counts"] == {
        "reactions": reactions.total(),
        "comments": 0,
        "reposts": sum(row.reposted for row in rows),
        "saves": sum(row.saved for row in rows),
    }


def test_many_at_once_are_counted_one_by_one(person: Callable[[], Person], alice: Person) -> None:
    post = alice.post_photo("Everybody at once")
    dice = random.Random(11)
    with ThreadPoolExecutor(12) as threads:
        people = list(threads.map(lambda _: person(), range(6)))
        acts = [(dice.randrange(6), dice.choice([*PARTS]), dice.random() < 0.7, dice.randrange(3)) for _ in range(240)]
        list(threads.map(lambda act: do(people[act[0]], post["id"], act), acts))
    after = alice.get(f"/v1/posts/{post['id']}")
    assert_counted(after)
    for one in people:
        seen = one.get(f"/v1/posts/{post['id']}")
        assert seen == after | {"viewer": seen["viewer"]}


def view(trio: list[Person], post_id: str) -> list[Any]:
    """All that each of them sees of it."""
    seen: list[Any] = []
    for viewer in trio:
        seen += [viewer.get(f"/v1/posts/{post_id}{part}") for part in ("", "/reactions", "/reposts")]
        seen += [viewer.get(path, limit=100) for path in ("/v1/feed", "/v1/me/saved", "/v1/me/reacted")]
        seen += [[{**item, "id": ""} for item in viewer.get("/v1/notifications")["items"]]]
    return seen


@given(acts=ACTS, order=st.randoms(use_true_random=False))
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_shuffled_and_repeated_events_end_where_a_rebuild_ends(
    stack: Stack, trio: list[Person], acts: list[Act], order: Any
) -> None:
    post_id = trio[0].post_photo("For all three")["id"]
    wait_until(lambda: trio[1].get("/v1/feed")["items"][0]["id"] == post_id)
    view(trio, post_id)
    with standing_still(stack, "background", "relay"):
        for act in acts:
            done = do(trio[act[0]], post_id, act)
            assert done == trio[act[0]].get(f"/v1/posts/{post_id}")
            assert_counted(done)
        with db.connection() as conn:
            waiting = WAITING.all(conn)
        kinds = {kind.topic: kind for kind in PARTS.values()}
        heard = [msgspec.json.decode(row.payload, type=kinds[row.topic]) for row in waiting] * 2
        order.shuffle(heard)
        for event in heard:
            for reaction in ("project_engagement", "notify_of_engagement", "fan_out_repost"):
                if type(event) in REACTIONS[reaction].events:
                    REACTIONS[reaction].function(event)
        before = view(trio, post_id)
        cache.run_sync(("FLUSHDB",))
        assert view(trio, post_id) == before
    wait_until(outbox_is_empty)
    assert view(trio, post_id) == before


def outbox_is_empty() -> bool:
    with db.connection() as conn:
        return not WAITING.all(conn)
