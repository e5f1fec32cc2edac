"""A follow changes the feed as a whole: nothing is missing in the middle."""

from collections.abc import Callable

from shared.feed import actions
from shared.feed.model import FEEDS
from shared.kernel import cache
from shared.profiles import reads as profiles
from shared.profiles.model import FollowChanged
from tests.client import Person
from tests.feed.posts import insert_posts


def feed_of(person: Person) -> list[str]:
    return [post["id"] for post in person.items("/v1/feed", limit=100)]


def test_all_posts_of_someone_followed_come_in_beside_older_ones(person: Callable[[], Person]) -> None:
    reader, one, other = person(), person(), person()
    older = insert_posts(one, 200, days_ago=20)
    newer = insert_posts(other, 250, days_ago=10)
    reader.follow(one.username)
    assert feed_of(reader) == older
    reader.follow(other.username)
    assert feed_of(reader) == newer + older
    reader.delete(f"/v1/users/{one.username}/follow")
    assert feed_of(reader) == newer


def test_an_event_heard_late_or_again_changes_nothing(alice: Person, bob: Person) -> None:
    found = profiles.named([alice.username, bob.username])
    pair = found[alice.username], found[bob.username]
    posts = insert_posts(bob, 3, days_ago=1)
    alice.follow(bob.username)
    alice.delete(f"/v1/users/{bob.username}/follow")
    alice.follow(bob.username)
    actions.follow_changed(FollowChanged(*pair, None, 2))
    actions.follow_changed(FollowChanged(*pair, 1, 1))
    assert feed_of(alice) == posts


def test_its_event_drops_the_feed_where_the_request_could_not(alice: Person, bob: Person) -> None:
    found = profiles.named([alice.username, bob.username])
    assert feed_of(alice) == []
    asked = FEEDS.ask(found[alice.username], None, 1)
    assert FEEDS.take(cache.run_sync(*asked), 1).complete
    actions.follow_changed(FollowChanged(found[alice.username], found[bob.username], 1, 1))
    assert not FEEDS.take(cache.run_sync(*asked), 1).complete


def test_paging_goes_on_beyond_what_redis_keeps(alice: Person, bob: Person) -> None:
    posts = insert_posts(bob, FEEDS.keep + 30, days_ago=1)
    alice.follow(bob.username)
    assert feed_of(alice) == posts
    assert [post["id"] for post in alice.items(f"/v1/users/{bob.username}/posts", limit=100)] == posts
