"""Events in any order, any number of times, end where a rebuild ends."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from importlib import import_module
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import main
from infra.local.stack import Stack
from shared.kernel import cache, db, ids
from shared.kernel.events import REACTIONS, Event
from shared.posts.model import PostCreated, PostDeleted
from shared.profiles import reads as profiles
from shared.profiles.model import BlockChanged, FollowChanged, MuteChanged
from shared.profiles.store import IdRow
from tests.client import Person, decoded, sign_up, wait_until
from tests.feed.merging import merging_from

# Redelivered here; mail, media and chunks under way have tests of their own.
HEARD = ["project_users", "project_relationships", "project_posts", "fan_out_post", "drop_feed"]
# From how many followers on authors are merged into feeds on read: hardly any, or whom both others follow.
THRESHOLDS = ["hardly any merged", "merged from two followers on"]
HEARD += ["notify_of_follow", "notify_of_post", "push_notification", "project_to_graph", "project_notifications"]
STANDS = {"block": "PUT", "unblock": "DELETE", "mute": "PUT", "unmute": "DELETE"}

Act = tuple[str, int, int]
ACTS = st.lists(
    st.tuples(
        st.sampled_from(["follow", "follow", "unfollow", "post", "delete", *STANDS]),
        st.integers(0, 2),
        st.integers(0, 2),
    ),
    min_size=3,
    max_size=14,
)


@pytest.fixture(scope="module", params=THRESHOLDS)
def trio(request: pytest.FixtureRequest, stack: Stack) -> Iterator[list[Person]]:
    for module in main.EVENT_TARGETS:
        import_module(module)
    with nullcontext(stack) if request.param == THRESHOLDS[0] else merging_from(2) as running:
        yield [sign_up(running) for _ in range(3)]


def id_of(person: Person) -> int:
    return profiles.named([person.username])[person.username]


def do(trio: list[Person], act: Act, posts: list[tuple[int, str]]) -> list[Event]:
    """Do it through the API; the events that it makes."""
    name, one, two = act
    actor, other = trio[one], trio[two]
    if one == two and name not in ("post", "delete"):
        return []
    if name in ("follow", "unfollow"):
        actor.ask("PUT" if name == "follow" else "DELETE", f"/v1/users/{other.username}/follow")
        return follow_events((id_of(actor), id_of(other)))
    if name in STANDS:
        return stand(actor, other, name)
    if name == "post":
        post = actor.post_photo(f"Hello @{other.username}", seed=len(posts))
        posts.append((one, post["id"]))
        return [PostCreated(ids.decode(post["id"]), id_of(actor))]
    if not posts:
        return []
    owner, post_id = posts.pop(two % len(posts))
    trio[owner].delete(f"/v1/posts/{post_id}")
    return [PostDeleted(ids.decode(post_id), id_of(trio[owner]))]


def follow_events(*pairs: tuple[int, int]) -> list[Event]:
    """What tells of follows as they are by now."""
    with db.connection() as conn:
        return [
            FollowChanged(
                state.follower_id,
                state.followee_id,
                FOLLOW.one(conn, one=state.follower_id, two=state.followee_id).id if state.following else None,
                state.version,
            )
            for state in profiles.follows_among(pairs)
        ]


def stand(actor: Person, other: Person, name: str) -> list[Event]:
    """Block, mute, or take it back. A block is heard with the ends of the follows that there may have been."""
    what = name.removeprefix("un")
    if actor.ask(STANDS[name], f"/v1/users/{other.username}/{what}").status_code != 200:
        return []
    pair = id_of(actor), id_of(other)
    follows = follow_events(pair, (pair[1], pair[0]))
    versions = {
        (event.follower_id, event.followee_id): event.version for event in follows if isinstance(event, FollowChanged)
    }
    changed = BlockChanged if what == "block" else MuteChanged
    return [changed(*pair, versions.get(pair, 0)), *(follows if name == "block" else [])]


def view(trio: list[Person]) -> list[Any]:
    """All that each of them sees."""
    owned = ("", "/posts", "/followers", "/following")
    paths = [f"/v1/users/{owner.username}{tail}" for owner in trio for tail in owned]
    paths += ["/v1/feed", "/v1/notifications", "/v1/me", "/v1/me/blocked", "/v1/me/muted"]
    answers = [viewer.ask("GET", path) for viewer in trio for path in paths]
    # Across a block there is nothing, and each answer that says so has an id of its own.
    return [decoded(answer) if answer.status_code == 200 else answer.status_code for answer in answers]


def deliver(event: Event) -> None:
    """To every function that hears it."""
    for name in HEARD:
        if type(event) in REACTIONS[name].events:
            REACTIONS[name].function(event)


def outbox_is_empty() -> bool:
    with db.connection() as conn:
        return OUTBOX.one(conn).id == 0


FOLLOW = db.Statement("SELECT follow_id FROM relationships WHERE user_id = :one AND other_id = :two", IdRow)
OUTBOX = db.Statement("SELECT count(*) FROM outbox", IdRow)


@given(acts=ACTS, order=st.randoms(use_true_random=False))
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_shuffled_and_repeated_events_end_where_a_rebuild_ends(trio: list[Person], acts: list[Act], order: Any) -> None:
    posts: list[tuple[int, str]] = []
    log = [event for act in acts for event in do(trio, act, posts)]
    wait_until(outbox_is_empty)
    again = log * 2
    order.shuffle(again)
    for event in again:
        deliver(event)
    wait_until(settled(trio))
    before = view(trio)
    forget([*map(id_of, trio), *[event.post_id for event in log if isinstance(event, PostCreated)]])
    assert view(trio) == before


def forget(named: list[int]) -> None:
    """Lose all that Redis holds of these. What others left there stays: it is looked at when all have run."""
    for name in map(ids.encode, named):
        if keys := list(cache.redis().scan_iter(f"*{name}*")):
            cache.run_sync(("DEL", *keys))


def settled(trio: list[Person]) -> Callable[[], bool]:
    """Whether the views have stopped changing: what was delivered made events of its own."""
    last: list[Any] = []

    def check() -> bool:
        seen = view(trio)
        same = bool(last) and last[0] == seen and outbox_is_empty()
        last[:] = [seen]
        return same

    return check
