"""Lists about posts: what one saved, reacted to, is mentioned in; who reacted and who reposted."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from shared.kernel import db, ids
from shared.profiles import reads as profiles
from tests.client import Format, Person, Visitor, trips, wait_until
from tests.feed.posts import insert_posts
from tests.profiles.people import leave

Problem = Callable[[httpx.Response, int, str], dict[str, Any]]
LISTS = ("/v1/me/saved", "/v1/me/reacted", "/v1/me/mentioned")


def id_of(person: Person) -> int:
    return profiles.named([person.username])[person.username]


def block(one: Person, other: Person) -> None:
    one.put(f"/v1/users/{other.username}/block")


def engage(person: Person, post: dict[str, Any]) -> dict[str, Any]:
    path = f"/v1/posts/{post['id']}"
    person.put(f"{path}/save")
    return person.put(f"{path}/reaction", {"emoji": "🌻"})


def ids_of(person: Person, path: str, limit: int = 20) -> list[str]:
    return [post["id"] for post in person.items(path, limit=limit)]


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_ones_own_lists_have_the_latest_act_first(alice: Person, bob: Person, format: Format) -> None:
    alice = alice.speaking(format)
    posts = [bob.post_photo(f"Number {n} for @{alice.username}", seed=n) for n in range(3)]
    for post in (posts[1], posts[2], posts[0]):
        engage(alice, post)
    by_act = [posts[n]["id"] for n in (0, 2, 1)]
    assert ids_of(alice, "/v1/me/saved") == ids_of(alice, "/v1/me/reacted", limit=1) == by_act
    assert ids_of(alice, "/v1/me/mentioned", limit=2) == [post["id"] for post in reversed(posts)]
    assert alice.get("/v1/me/saved")["items"][0] == alice.get(f"/v1/posts/{posts[0]['id']}")
    assert ids_of(bob, "/v1/me/saved") == ids_of(bob, "/v1/me/reacted") == ids_of(bob, "/v1/me/mentioned") == []

    alice.delete(f"/v1/posts/{posts[2]['id']}/save")
    alice.delete(f"/v1/posts/{posts[0]['id']}/reaction")
    assert ids_of(alice, "/v1/me/saved") == [posts[0]["id"], posts[1]["id"]]
    assert ids_of(alice, "/v1/me/reacted") == [posts[2]["id"], posts[1]["id"]]
    bob.delete(f"/v1/posts/{posts[1]['id']}")
    assert ids_of(alice, "/v1/me/saved") == [posts[0]["id"]]
    assert ids_of(alice, "/v1/me/reacted") == [posts[2]["id"]]
    assert ids_of(alice, "/v1/me/mentioned") == [posts[2]["id"], posts[0]["id"]]


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_who_reacted_and_who_reposted(alice: Person, person: Callable[[], Person], format: Format) -> None:
    alice = alice.speaking(format)
    post = alice.post_photo("Popular")
    people = [person() for _ in range(4)]
    for index, one in enumerate(people):
        one.put(f"/v1/posts/{post['id']}/reaction", {"emoji": "👍" if index % 2 else "❤"})
        one.put(f"/v1/posts/{post['id']}/repost")
    names = [one.username for one in reversed(people)]
    reactions = list(alice.items(f"/v1/posts/{post['id']}/reactions", limit=3))
    assert [(item["user"]["username"], item["emoji"]) for item in reactions] == list(
        zip(names, ["👍", "❤️"] * 2, strict=True)
    )
    assert all(post["created_at"] <= item["at"] for item in reactions)
    for emoji, chosen in (("❤", reactions[1::2]), ("👍", reactions[::2]), ("🦊", [])):
        assert alice.get(f"/v1/posts/{post['id']}/reactions", emoji=emoji)["items"] == chosen
    assert [item["user"]["username"] for item in alice.items(f"/v1/posts/{post['id']}/reposts", limit=3)] == names
    people[3].put(f"/v1/posts/{post['id']}/reaction", {"emoji": "❤️"})
    people[0].delete(f"/v1/posts/{post['id']}/reaction")
    people[0].delete(f"/v1/posts/{post['id']}/repost")
    reacted = [(item["user"]["username"], item["emoji"]) for item in alice.items(f"/v1/posts/{post['id']}/reactions")]
    assert reacted == [(names[0], "❤️"), (names[1], "❤️"), (names[2], "👍")]
    assert [item["user"]["username"] for item in alice.items(f"/v1/posts/{post['id']}/reposts")] == names[:3]


def test_pages_are_refilled_for_those_across_a_block(alice: Person, person: Callable[[], Person]) -> None:
    post = alice.post_photo("Mine")
    people = [person() for _ in range(6)]
    for one in people:
        one.put(f"/v1/posts/{post['id']}/reaction", {"emoji": "👍"})
        one.put(f"/v1/posts/{post['id']}/repost")
    hidden = people[2:5]
    for one in hidden:
        block(one, people[0])
    expected = [one.username for one in (people[5], people[1], people[0])]
    for name in ("reactions", "reposts"):
        page = people[0].get(f"/v1/posts/{post['id']}/{name}", limit=2)
        assert [item["user"]["username"] for item in page["items"]] == expected[:2]
        assert [
            item["user"]["username"] for item in people[0].items(f"/v1/posts/{post['id']}/{name}", limit=2)
        ] == expected


def test_who_is_gone_is_in_no_list(alice: Person, bob: Person, person: Callable[[], Person]) -> None:
    carol = person()
    post, theirs = alice.post_photo("Mine"), carol.post_photo(f"@{alice.username}")
    for one in (bob, carol):
        engage(one, post)
        one.put(f"/v1/posts/{post['id']}/repost")
    engage(alice, theirs)
    leave(id_of(carol), state="suspended")
    for part in ("reactions", "reposts"):
        found = alice.get(f"/v1/posts/{post['id']}/{part}", limit=1)["items"]
        assert [item["user"]["username"] for item in found] == [bob.username]
    for path in LISTS:
        assert alice.get(path)["items"] == []
    assert alice.ask("PUT", f"/v1/posts/{theirs['id']}/repost").status_code == 404


def test_posts_across_a_block_are_in_no_list_and_their_lists_are_not_found(
    alice: Person, bob: Person, person: Callable[[], Person], problem: Problem
) -> None:
    carol = person()
    posts = [author.post_photo(f"@{alice.username}") for author in (carol, bob, bob, carol)]
    for post in posts:
        engage(alice, post)
    block(bob, alice)
    for path in LISTS:
        assert [post["id"] for post in alice.get(path, limit=2)["items"]] == [posts[3]["id"], posts[0]["id"]]
    for part in ("reactions", "reposts"):
        problem(alice.ask("GET", f"/v1/posts/{posts[1]['id']}/{part}"), 404, "post_not_found")
        problem(alice.ask("GET", f"/v1/posts/{'0' * 13}/{part}"), 404, "post_not_found")
    for method, part in (("PUT", "save"), ("DELETE", "save"), ("PUT", "repost"), ("DELETE", "reaction")):
        problem(alice.ask(method, f"/v1/posts/{posts[1]['id']}/{part}"), 404, "post_not_found")
    # What was done before can be taken back (docs/decisions/taking-back.md), and nothing else is done.
    assert set(bob.get(f"/v1/posts/{posts[1]['id']}")["counts"].values()) == {0}
    assert bob.get(f"/v1/posts/{posts[2]['id']}")["counts"]["saves"] == 1


def test_warm_lists_are_two_round_trips_to_redis(alice: Person, bob: Person) -> None:
    post = bob.post_photo(f"For @{alice.username}")
    engage(alice, post)
    alice.put(f"/v1/posts/{post['id']}/repost")
    wait_until(lambda: bob.get("/v1/notifications")["items"])
    paths = [*LISTS, *(f"/v1/posts/{post['id']}/{part}" for part in ("reactions", "reactions?emoji=🌻", "reposts"))]
    for path in paths:
        wait_until(lambda path=path: trips(alice.ask("GET", path), "postgres") == 0)
        answer = alice.ask("GET", path)
        assert len(answer.json()["items"]) == 1
        assert (trips(answer, "redis"), trips(answer, "postgres")) == (2, 0)


ENGAGE = db.Statement(
    """INSERT INTO engagements (subject_id, user_id, kind, emoji, reaction_id)
       SELECT :post_id, :user_id, 'post', '👍', :act_id"""
)


def test_paging_goes_on_beyond_what_redis_keeps(alice: Person, bob: Person) -> None:
    posts = [bob.post_photo(f"Number {n}", seed=n)["id"] for n in range(3)]
    made = insert_posts(bob, 300, days_ago=3)
    with db.connection() as conn:
        for post in made:
            ENGAGE.run(conn, post_id=ids.decode(post), user_id=id_of(alice), act_id=ids.decode(post))
    for post in posts:
        alice.put(f"/v1/posts/{post}/reaction", {"emoji": "👍"})
    assert ids_of(alice, "/v1/me/reacted", limit=70) == [*reversed(posts), *made]


def test_visitors_see_none_of_these(visitor: Visitor, alice: Person, problem: Problem) -> None:
    post = alice.post_photo("Public")
    for path in (*LISTS, f"/v1/posts/{post['id']}/reactions", f"/v1/posts/{post['id']}/reposts"):
        problem(visitor.ask("GET", path), 401, "not_signed_in")


def test_a_filter_that_is_no_emoji_is_named(alice: Person, problem: Problem) -> None:
    post = alice.post_photo("Public")
    found = problem(alice.ask("GET", f"/v1/posts/{post['id']}/reactions?emoji=ok"), 422, "invalid")
    assert [(fault["field"], fault["code"]) for fault in found["errors"]] == [("emoji", "not_an_emoji")]
