"""Nothing of a list is skipped, though Redis keeps less than all of it: whatever is read, deleted, or comes late."""

from collections.abc import Callable

import pytest

from infra.local.stack import Stack
from shared.feed import reads
from shared.feed.model import FEEDS, decoded
from shared.kernel import cache, db, ids
from shared.posts import projection
from shared.profiles import reads as profiles
from tests.client import Person, standing_still, trips, wait_until
from tests.feed.posts import insert_posts

EXTRA = 40
DELETED = 8
# How many of the oldest come up again: fewer than lie beyond what is kept, more than a page.
OLD = 30
DELETE = db.Statement("UPDATE posts SET deleted_at = 1, version = version + 1 WHERE id = ANY(CAST(:ids AS bigint[]))")


def paths(author: Person) -> tuple[str, str]:
    return f"/v1/users/{author.username}/posts", "/v1/feed"


def paged(person: Person, path: str, limit: int = 100) -> list[str]:
    return [post["id"] for post in person.items(path, limit=limit)]


@pytest.fixture
def long(alice: Person) -> tuple[Person, list[str]]:
    """Somebody with more posts than are kept, all of them read; the newest are deleted then."""
    posts = insert_posts(alice, FEEDS.keep + EXTRA, days_ago=1)
    for path in paths(alice):
        assert paged(alice, path) == posts
    gone = [ids.decode(post) for post in posts[:DELETED]]
    with db.connection() as conn:
        DELETE.run(conn, ids=gone)
    cache.run_sync(*projection.rows(projection.load(gone)))
    return alice, posts[DELETED:]


def test_a_look_at_old_posts_makes_no_hole(long: tuple[Person, list[str]]) -> None:
    author, posts = long
    for old in posts[-OLD:]:
        cache.run_sync(("DEL", projection.key(ids.decode(old))))
        author.get(f"/v1/posts/{old}")
    assert [paged(author, path, limit=7) for path in paths(author)] == [posts, posts]


def test_old_posts_brought_up_to_date_make_no_hole(long: tuple[Person, list[str]]) -> None:
    author, posts = long
    cache.run_sync(*projection.rows(projection.load([ids.decode(old) for old in posts[-OLD:]])))
    assert [paged(author, path, limit=7) for path in paths(author)] == [posts, posts]


def test_one_that_was_trimmed_and_is_short_is_not_taken_for_all(alice: Person) -> None:
    posts = insert_posts(alice, FEEDS.keep + EXTRA, days_ago=1)
    owner = profiles.named([alice.username])[alice.username]
    for path, timeline in zip(paths(alice), (projection.OF_AUTHOR, FEEDS), strict=True):
        assert paged(alice, path) == posts
        # All but five of what is kept is gone from Redis, without its being built again.
        cache.run_sync(("ZREMRANGEBYRANK", timeline.key(owner), 0, FEEDS.keep - 6))
        assert timeline.take(cache.run_sync(*timeline.ask(owner, None, 100)), 100).complete
        assert paged(alice, path) == posts


def test_a_page_beyond_the_end_of_a_whole_list_is_empty_without_postgres(alice: Person) -> None:
    posts = [alice.post_photo(f"Number {n}", seed=n)["id"] for n in range(3)][::-1]
    for path in paths(alice):
        wait_until(lambda path=path: paged(alice, path) == posts)
        assert paged(alice, path, limit=1) == posts
        page = alice.get(path, limit=2)
        last = alice.ask("GET", f"{path}?limit=2&cursor={page['next_cursor']}")
        assert [post["id"] for post in last.json()["items"]] == posts[2:]
        assert trips(last, "postgres") == 0, last.headers["server-timing"]


def test_a_deleted_post_put_back_late_leaves_no_page_short(stack: Stack, alice: Person) -> None:
    posts = [alice.post_photo(f"Number {n}", seed=n)["id"] for n in range(4)][::-1]
    path = paths(alice)[0]
    assert paged(alice, path) == posts
    late = projection.load([ids.decode(posts[1])])
    with standing_still(stack, "background"):
        alice.delete(f"/v1/posts/{posts.pop(1)}")
        # Whoever read it while it was there goes on after its end.
        cache.run_sync(*projection.rows(late))
        page = alice.get(path, limit=2)
        assert [post["id"] for post in page["items"]] == posts[:2]
        rest = alice.get(path, limit=2, cursor=page["next_cursor"])
        assert ([post["id"] for post in rest["items"]], rest["next_cursor"]) == (posts[2:], None)


def test_a_feed_of_few_who_post_much_and_many_who_post_little_is_all_there(person: Callable[[], Person]) -> None:
    reader, busy, *others = (person() for _ in range(6))
    much = insert_posts(busy, 300, days_ago=2)
    expected = list(much)
    for age, other in enumerate(others, 1):
        expected += insert_posts(other, 20, days_ago=age)
    for one in (busy, *others):
        reader.follow(one.username)
    for post in much[::50]:
        others[0].put(f"/v1/posts/{post}/repost")
    entries = reads.newest(profiles.named([reader.username])[reader.username])
    of_posts = [entry.post_id for entry in map(decoded, entries) if entry.repost is None]
    assert [*map(ids.encode, of_posts)] == sorted(expected, reverse=True)
    assert len(entries) == len(expected) + len(much[::50])
    assert entries == sorted(entries, reverse=True)
    assert set(paged(reader, "/v1/feed", limit=7)) == set(expected)
