"""Paging sees every item that existed throughout exactly once, in order, whatever comes and goes meanwhile."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.local.stack import Stack
from shared.kernel import cache, ids
from shared.profiles import reads as profiles
from tests.client import sign_up, wait_until

ITEMS = 6
# The limit of a page, and what happens after it, to which of the items.
Step = tuple[int, str, int]
STEPS = st.lists(
    st.tuples(
        st.integers(1, 3), st.sampled_from(["nothing", "insert", "delete", "delete", "lose"]), st.integers(0, ITEMS)
    ),
    max_size=5,
)
Key = Callable[[dict[str, Any]], str]
LISTS: dict[str, tuple[str, Key]] = {
    "get_feed": ("/v1/feed", lambda item: item["id"]),
    "list_user_posts": ("/v1/users/{author}/posts", lambda item: item["id"]),
    "list_mentioned_posts": ("/v1/me/mentioned", lambda item: item["id"]),
    "list_notifications": ("/v1/notifications", lambda item: item["subject"]["id"]),
}


class Author:
    """Somebody whose posts mention a follower: each is an item of all these lists. `posts` are there, newest first."""

    def __init__(self, stack: Stack):
        self.person = sign_up(stack)
        self.reader = sign_up(stack)
        self.reader.follow(self.person.username)
        self.posts: list[str] = []

    def insert(self) -> None:
        made = self.person.post_photo(f"For @{self.reader.username}")["id"]
        self.posts.insert(0, made)

    def delete(self, index: int) -> None:
        self.person.delete(f"/v1/posts/{self.posts.pop(index % len(self.posts))}")

    def lose(self) -> None:
        """What Redis holds of the lists is gone."""
        found = profiles.named([self.person.username, self.reader.username])
        author, reader = ids.encode(found[self.person.username]), ids.encode(found[self.reader.username])
        cache.run_sync(("DEL", f"feed:{reader}", f"posts:{author}", f"notifications:{reader}", f"mentioning:{reader}"))


@pytest.fixture(scope="module")
def author(stack: Stack) -> Author:
    return Author(stack)


@pytest.mark.parametrize("name", LISTS)
@given(steps=STEPS)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_existed_throughout_is_seen_once_in_order(author: Author, name: str, steps: list[Step]) -> None:
    path, key = LISTS[name][0].format(author=author.person.username), LISTS[name][1]
    while len(author.posts) < ITEMS:
        author.insert()
    wait_until(lambda: [key(item) for item in author.reader.items(path, limit=100)] == author.posts)
    start = list(author.posts)
    seen = [key(item) for item in paged(author, path, steps)]
    throughout = [post_id for post_id in start if post_id in author.posts]
    assert [post_id for post_id in seen if post_id in throughout] == throughout
    assert seen == sorted(set(seen), reverse=True)


def paged(author: Author, path: str, steps: list[Step]) -> list[dict[str, Any]]:
    """All items, page by page, with something happening after each page."""
    items: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    for limit, act, index in [*steps, *[(2, "nothing", 0)] * 3 * ITEMS]:
        page = author.reader.get(path, limit=limit, **cursor)
        assert len(page["items"]) <= limit
        items += page["items"]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
        if act == "insert":
            author.insert()
        elif act == "delete" and author.posts:
            author.delete(index)
        elif act == "lose":
            author.lose()
    else:
        raise AssertionError("the list has no end")
    return items
