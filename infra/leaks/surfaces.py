"""The surfaces on which something may be seen: a line for each endpoint that reads.

Who is to be seen on one, and by which words, is said by the contract's rules in infra/leaks/world.py.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from infra.leaks.world import Someone, World

Rule = Callable[[World, Someone | None, Someone], bool]


class Surface(NamedTuple):
    """A path; on whom it may tell something, on whom it must, and by which words.

    With `{username}`, `{post}` or `{comment}` in the path it is asked for everybody's: 404 where it may tell nothing of
    them. Of others it tells, anywhere, only what may be seen of them. `forbidden`: 403 for all here.
    """

    path: str
    may: Rule
    must: Rule
    words: tuple[str, ...]
    forbidden: bool = False


def nobody(world: World, who: Someone | None, subject: Someone) -> bool:
    """What shows only oneself."""
    return who is subject


def by_anyone_who_may(path: str, *words: str) -> Surface:
    """What shows everybody whom one may see."""
    return Surface(path, World.sees, World.sees, words)


def of_ones_own(path: str) -> Surface:
    """A list of posts that one did something with: of people whom one may see."""
    return Surface(path, World.sees, nobody, ())


SURFACES: Final[dict[str, Surface]] = {
    "get_me": Surface("/v1/me", nobody, nobody, ("card", "name", "bio")),
    "get_profile": by_anyone_who_may("/v1/users/{username}", "card", "name", "bio"),
    "list_user_posts": by_anyone_who_may("/v1/users/{username}/posts", "card", "name", "posts"),
    "get_post": by_anyone_who_may("/v1/posts/{post}", "card", "name"),
    "get_feed": Surface("/v1/feed", World.is_fed, World.is_fed, ("card", "name", "posts")),
    "list_followers": by_anyone_who_may("/v1/users/{username}/followers"),
    "list_following": by_anyone_who_may("/v1/users/{username}/following"),
    "list_post_comments": by_anyone_who_may("/v1/posts/{post}/comments", "card", "name"),
    "list_post_reactions": by_anyone_who_may("/v1/posts/{post}/reactions"),
    "list_reposts": by_anyone_who_may("/v1/posts/{post}/reposts"),
    "get_comment": by_anyone_who_may("/v1/comments/{comment}", "card", "name"),
    "list_replies": by_anyone_who_may("/v1/comments/{comment}/replies"),
    "list_comment_reactions": by_anyone_who_may("/v1/comments/{comment}/reactions"),
    "list_saved_posts": of_ones_own("/v1/me/saved"),
    "list_reacted_posts": of_ones_own("/v1/me/reacted"),
    "list_mentioned_posts": of_ones_own("/v1/me/mentioned"),
    "list_commented_posts": of_ones_own("/v1/me/commented"),
    "list_blocked": Surface("/v1/me/blocked", World.has_blocked, World.has_blocked, ("card", "name")),
    "list_muted": Surface("/v1/me/muted", World.has_muted, World.has_muted, ("card", "name")),
    "list_sessions": Surface("/v1/me/sessions", nobody, nobody, ()),
    "list_reports": Surface("/v1/reports", nobody, nobody, (), forbidden=True),
    "list_notifications": Surface("/v1/notifications", World.hears, World.is_addressed, ("card", "name")),
}
