"""Lists of users: in order, as the viewer may see them, as fast at the end as at the start."""

import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.local.stack import Stack
from shared.kernel import cache, db, ids
from shared.profiles import projection, store
from shared.profiles import reads as profiles
from shared.visibility import followed_by
from tests.client import Person, Visitor, decoded, sign_up, trips, wait_until
from tests.profiles.people import insert_followers, leave

Problem = Callable[..., dict[str, Any]]
NOBODY = {"following": False, "followed_by": False, "blocking": False, "muting": False}
LISTS = {"followers": store.FOLLOWERS, "following": store.FOLLOWING, "blocked": store.BLOCKED, "muted": store.MUTED}


def id_of(person: Person) -> int:
    return profiles.named([person.username])[person.username]


def followers(owner: Person) -> str:
    return f"/v1/users/{owner.username}/followers"


def following(owner: Person) -> str:
    return f"/v1/users/{owner.username}/following"


def names(reader: Visitor, path: str, limit: int = 20) -> list[str]:
    return [item["user"]["username"] for item in reader.items(path, limit)]


def lose(*keys: str) -> None:
    cache.run_sync(("DEL", *keys))


def test_the_newest_come_first_with_how_the_viewer_stands_to_them(
    alice: Person, bob: Person, person: Callable[[], Person]
) -> None:
    carol, dora, erin = person(), person(), person()
    for follower in (bob, carol, dora):
        follower.follow(alice.username)
    bob.follow(carol.username)
    carol.follow(bob.username)
    bob.put(f"/v1/users/{dora.username}/mute")
    seen = bob.get(followers(alice))
    assert [item["viewer"] for item in seen["items"]] == [
        NOBODY | {"muting": True},
        NOBODY | {"following": True, "followed_by": True},
        NOBODY,
    ]
    for item, owner in zip(seen["items"], (dora, carol, bob), strict=True):
        assert item == {key: bob.get(f"/v1/users/{owner.username}")[key] for key in ("user", "viewer")}
    assert seen["next_cursor"] is None
    # Who follows once more is new again.
    bob.delete(f"/v1/users/{alice.username}/follow")
    bob.follow(alice.username)
    assert names(erin, followers(alice)) == [bob.username, dora.username, carol.username]
    assert erin.get(followers(alice))["items"][0] == {"user": seen["items"][2]["user"], "viewer": NOBODY}
    assert names(erin, following(bob)) == [alice.username, carol.username]
    assert bob.speaking("msgpack").get(followers(alice), limit=2) == bob.get(followers(alice), limit=2)


def test_the_hidden_and_the_gone_are_left_out_and_pages_are_full(
    alice: Person, bob: Person, person: Callable[[], Person]
) -> None:
    there = insert_followers(alice, 60)
    bob_id, found = id_of(bob), profiles.named(there)
    hidden = [name for n, name in enumerate(there) if n % 10 < 8]
    for name in hidden[:24]:
        bob.put(f"/v1/users/{name}/block")
    leave(*[found[name] for name in hidden[24:]])
    shown = [name for name in there if name not in hidden]
    first = bob.get(followers(alice), limit=7)
    assert [item["user"]["username"] for item in first["items"]] == shown[:7]
    assert names(bob, followers(alice), 5) == shown
    assert bob.get(followers(alice), limit=len(shown))["next_cursor"] is None
    lose(f"followers:{ids.encode(id_of(alice))}", f"relations:{ids.encode(bob_id)}")
    assert names(bob, followers(alice), 5) == shown
    assert names(person(), followers(alice), 100) == [name for name in there if name in shown + hidden[:24]]
    assert names(bob, "/v1/me/blocked", 7) == hidden[:24][::-1]


def test_nobody_has_no_list(alice: Person, visitor: Visitor, problem: Problem) -> None:
    for which in ("followers", "following"):
        problem(alice.ask("GET", f"/v1/users/nobody_of_this_name/{which}"), 404, "user_not_found")
        # Whether there is somebody is said of the profile.
        for username in ("nobody_of_this_name", alice.username):
            problem(visitor.ask("GET", f"/v1/users/{username}/{which}"), 401, "not_signed_in")


def test_a_user_who_is_gone_has_no_list(alice: Person, bob: Person, problem: Problem) -> None:
    bob.follow(alice.username)
    leave(id_of(alice))
    problem(bob.ask("GET", followers(alice)), 404, "user_not_found")
    problem(bob.ask("GET", following(alice)), 404, "user_not_found")
    assert names(bob, following(bob)) == []


def test_a_cursor_of_one_list_is_refused_by_another(alice: Person, bob: Person, problem: Problem) -> None:
    insert_followers(alice, 3)
    cursor = bob.get(followers(alice), limit=1)["next_cursor"]
    for path in (following(alice), "/v1/me/blocked", "/v1/me/muted"):
        document = problem(bob.http.get(path, params={"cursor": cursor}), 422, "invalid")
        assert [(error["field"], error["code"]) for error in document["errors"]] == [("cursor", "malformed")]


@pytest.mark.parametrize("what", ["followers", "following", "blocked", "muted"])
def test_two_trips_to_redis_and_none_to_postgres_when_warm(alice: Person, bob: Person, what: str) -> None:
    insert_followers(bob, 30)
    for act in ("follow", "mute"):
        alice.put(f"/v1/users/{bob.username}/{act}")
    path = f"/v1/users/{bob.username}/{what}" if what.startswith("follow") else f"/v1/me/{what}"

    # What is heard of those acts meanwhile may end what a read builds: the next one does it.
    def is_warm() -> bool:
        return trips(alice.ask("GET", path), "postgres") == 0

    wait_until(is_warm)
    warm = alice.ask("GET", path)
    assert 1 <= trips(warm, "redis") <= 2, warm.headers["server-timing"]
    assert trips(warm, "postgres") == 0, warm.headers["server-timing"]
    assert len(decoded(warm)["items"]) == {"followers": 20, "following": 0, "blocked": 0, "muted": 1}[what]


def test_paging_goes_on_beyond_what_redis_keeps(alice: Person, bob: Person) -> None:
    there = insert_followers(alice, projection.FOLLOWERS.keep + 30)
    assert names(bob, followers(alice), 100) == there
    # What leaves and comes back makes no hole between what Redis has and what it has not.
    old = profiles.named(there[-1:])[there[-1]]
    cache.run_sync(*projection.relationship(store.RelationshipRow(old, id_of(alice), old, None, None, False, False, 1)))
    assert names(bob, followers(alice), 100) == there


class PlanRow(msgspec.Struct, frozen=True):
    line: str


@pytest.mark.parametrize("name", LISTS)
def test_a_page_is_an_index_range_wherever_it_is(alice: Person, name: str) -> None:
    insert_followers(alice, 200)
    sql = re.sub(
        r":(owner|before|limit)\b",
        lambda match: {"owner": "$1", "before": "$2", "limit": "$3"}[match[1]],
        LISTS[name].sql,
    )
    with db.unlimited() as conn:
        conn.command("SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan")
        conn.command(f"PREPARE page (bigint, bigint, bigint) AS {sql}")
        explain = db.Statement("EXPLAIN EXECUTE page (1, 2, 20)", PlanRow)
        plan = "\n".join(row.line for row in explain.all(conn))
    column = {"followers": "follow_id", "following": "follow_id", "blocked": "block_id", "muted": "mute_id"}[name]
    assert f"Backward using relationships_{name} on relationships" in plan, plan
    assert f"{column} < $2" in plan.partition("Index Cond:")[2], plan
    assert "Sort" not in plan
    assert "Filter" not in plan


class TestFollowedBy:
    """Whether others follow the viewer is remembered of those who were asked about, and kept up to date."""

    def test_it_is_told_where_it_was_asked(self, alice: Person, bob: Person, person: Callable[[], Person]) -> None:
        carol = person()
        for follower in (bob, carol):
            follower.follow(alice.username)

        def seen() -> dict[str, bool]:
            items = bob.get(followers(alice))["items"]
            return {item["user"]["username"]: item["viewer"]["followed_by"] for item in items}

        assert seen() == {bob.username: False, carol.username: False}
        carol.follow(bob.username)
        assert seen() == {bob.username: False, carol.username: True}
        carol.delete(f"/v1/users/{bob.username}/follow")
        assert seen() == {bob.username: False, carol.username: False}
        (fields,) = cache.run_sync(("HKEYS", f"followed_by:{ids.encode(id_of(bob))}"))
        assert {ids.decode(field.decode()) for field in fields} == {id_of(one) for one in (alice, bob, carol)}

    def test_an_older_change_and_one_nobody_asked_about_are_not_taken(self, alice: Person, bob: Person) -> None:
        one, two, key = id_of(alice), id_of(bob), f"followed_by:{ids.encode(id_of(bob))}"
        cache.run_sync(followed_by.changed(one, two, 3, following=True))
        assert cache.run_sync(("EXISTS", key)) == [0]
        insert_followers(alice, 2)
        bob.get(followers(alice))
        for version, follows in ((3, True), (2, False), (4, False), (3, True)):
            cache.run_sync(followed_by.changed(one, two, version, following=follows))
        assert cache.run_sync(("HGET", key, ids.encode(one))) == [b"0000000000000004"]
        cache.run_sync(("DEL", key))


Step = tuple[int, str, int]
STEPS = st.lists(
    st.tuples(
        st.integers(1, 3), st.sampled_from(["nothing", "follow", "unfollow", "again", "lose"]), st.integers(0, 9)
    ),
    max_size=6,
)


class Celebrity:
    """Somebody with followers who come and go; `there` are the followers, the newest first."""

    def __init__(self, stack: Stack):
        self.person, self.reader = sign_up(stack), sign_up(stack)
        self.fans = [sign_up(stack) for _ in range(8)]
        self.there: list[Person] = []
        for fan in self.fans[:5]:
            self.follow(fan)

    def follow(self, fan: Person) -> None:
        fan.follow(self.person.username)
        self.there = [fan, *[one for one in self.there if one is not fan]]

    def unfollow(self, fan: Person) -> None:
        fan.delete(f"/v1/users/{self.person.username}/follow")
        self.there = [one for one in self.there if one is not fan]

    def happen(self, act: str, index: int) -> set[Person]:
        """What happens between two pages, and to whom."""
        away = [fan for fan in self.fans if fan not in self.there]
        if act == "lose":
            lose(f"followers:{ids.encode(id_of(self.person))}", f"followed_by:{ids.encode(id_of(self.reader))}")
        elif act == "follow" and away:
            self.follow(away[index % len(away)])
            return {self.there[0]}
        elif act in ("unfollow", "again") and self.there:
            fan = self.there[index % len(self.there)]
            self.unfollow(fan)
            if act == "again":
                self.follow(fan)
            return {fan}
        return set()


@pytest.fixture(scope="module")
def celebrity(stack: Stack) -> Celebrity:
    return Celebrity(stack)


@given(steps=STEPS)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_who_follows_throughout_is_listed_once_in_order(celebrity: Celebrity, steps: list[Step]) -> None:
    start, moved = list(celebrity.there), set[Person]()
    seen: list[str] = []
    cursor: dict[str, str] = {}
    for limit, act, index in [*steps, *[(2, "nothing", 0)] * 20]:
        page = celebrity.reader.get(followers(celebrity.person), limit=limit, **cursor)
        assert len(page["items"]) <= limit
        seen += [item["user"]["username"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        # A page is full while more is to come: nobody is hidden from this reader.
        assert len(page["items"]) == limit
        cursor = {"cursor": page["next_cursor"]}
        moved |= celebrity.happen(act, index)
    else:
        raise AssertionError("the list has no end")
    throughout = [fan.username for fan in start if fan not in moved]
    assert [name for name in seen if name in throughout] == throughout
    assert len(seen) == len(set(seen))
    everyone = [fan.username for fan in celebrity.there]
    assert names(celebrity.reader, followers(celebrity.person), 3) == everyone
    assert celebrity.reader.get(f"/v1/users/{celebrity.person.username}")["counts"]["followers"] == len(everyone)
