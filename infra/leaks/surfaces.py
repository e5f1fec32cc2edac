"""The surfaces on which something may be seen: a line for each endpoint that reads.

Who is to be seen on one, and by which words, is said by the contract's rules in infra/leaks/world.py.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from infra.leaks.world import Someone, World

Rule = Callable[[World, Someone | None, Someone], bool]


class Surface(NamedTuple):
    """A path; on whom it may tell something, on whom it must, and by which words.

    With `{username}` or `{post}` in the path it is asked for everybody, and tells of them alone: 404 where it may not.
    """

    path: str
    may: Rule
    must: Rule
    words: tuple[str, ...]


def nobody(world: World, who: Someone | None, subject: Someone) -> bool:
    """What shows only oneself."""
    return who is subject


def by_anyone_who_may(path: str, *words: str) -> Surface:
    """What shows everybody whom one may see."""
    return Surface(path, World.sees, World.sees, words)


SURFACES: Final[dict[str, Surface]] = {
    "get_me": Surface("/v1/me", nobody, nobody, ("card", "name", "bio")),
    "get_profile": by_anyone_who_may("/v1/users/{username}", "card", "name", "bio"),
    "list_user_posts": by_anyone_who_may("/v1/users/{username}/posts", "card", "name", "posts"),
    "get_post": by_anyone_who_may("/v1/posts/{post}", "card", "name"),
    "get_feed": Surface("/v1/feed", World.is_fed, World.is_fed, ("card", "name", "posts")),
    "list_notifications": Surface("/v1/notifications", World.hears, World.is_addressed, ("card", "name")),
}
