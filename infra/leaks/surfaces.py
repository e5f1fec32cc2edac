"""The surfaces on which something may be seen: a line for each endpoint that reads.

Who is to be seen on one, and by which words, is said by the contract's rules in infra/leaks/world.py.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from infra.leaks.world import Someone, World

Rule = Callable[[World, Someone | None, Someone], bool]
# Whether a surface about an owner has `subject` among those whom it lists, as far as they may be seen.
Lists = Callable[[World, Someone, Someone], bool]
PEOPLE: Final = ("card", "name")
POSTS: Final = ("card", "name", "posts")


class Surface(NamedTuple):
    """A path; on whom it may tell something, on whom it must, and by which words.

    With a parameter in the path it is asked for everybody's, and is 404 where the owner may not be seen; whom it
    `lists` has to be on it then. `post 1` is the word of somebody's first post, `posts` those of all. `forbidden` is
    what answers 403 to everybody here; `outlives` what of a deleted account is still there as a tombstone under what
    others said, with nothing of the owner's on it. `between` is what there is with others alone, and not with oneself.
    """

    path: str
    may: Rule
    must: Rule
    words: tuple[str, ...]
    lists: Lists | None = None
    forbidden: bool = False
    outlives: bool = False
    between: bool = False


def nobody(world: World, who: Someone | None, subject: Someone) -> bool:
    """What shows only oneself."""
    return who is subject


def itself(world: World, owner: Someone, subject: Someone) -> bool:
    """What tells of its owner alone."""
    return owner is subject


def of_whom_one_may_see(path: str, *words: str, lists: Lists = itself, outlives: bool = False) -> Surface:
    """What shows somebody's to whoever may see them, and others with it."""
    return Surface(path, World.sees, World.sees, words, lists, outlives=outlives)


def of_what_one_did(path: str) -> Surface:
    """One's own list of posts that one did something with, of those whom one may see."""

    def must(world: World, who: Someone | None, subject: Someone) -> bool:
        return who is not None and world.acted(who, subject) and world.sees(who, subject)

    return Surface(path, World.sees, must, ("card", "name", "post 1"))


def in_touch(world: World, who: Someone | None, subject: Someone) -> bool:
    """Whether the two mention each other and write to each other, where they may see it: a mute hides nothing of it."""
    return who is not None and world.are_in_touch(who, subject)


def acted(world: World, owner: Someone, subject: Someone) -> bool:
    """Whether `subject` did something with what is the owner's."""
    return world.acted(subject, owner)


SURFACES: Final[dict[str, Surface]] = {
    "get_me": Surface("/v1/me", nobody, nobody, ("card", "name", "bio")),
    "list_sessions": Surface("/v1/me/sessions", nobody, nobody, ()),
    "get_profile": of_whom_one_may_see("/v1/users/{username}", "card", "name", "bio"),
    "list_user_posts": of_whom_one_may_see("/v1/users/{username}/posts", *POSTS),
    "list_followers": of_whom_one_may_see(
        "/v1/users/{username}/followers", *PEOPLE, lists=lambda world, owner, one: world.still_follows(one, owner)
    ),
    "list_following": of_whom_one_may_see("/v1/users/{username}/following", *PEOPLE, lists=World.still_follows),
    "list_blocked": Surface("/v1/me/blocked", World.has_blocked, World.has_blocked, PEOPLE),
    "list_muted": Surface("/v1/me/muted", World.has_muted, World.has_muted, PEOPLE),
    "list_saved_posts": of_what_one_did("/v1/me/saved"),
    "list_reacted_posts": of_what_one_did("/v1/me/reacted"),
    "list_commented_posts": of_what_one_did("/v1/me/commented"),
    "list_mentioned_posts": Surface("/v1/me/mentioned", World.sees, in_touch, POSTS),
    "get_post": of_whom_one_may_see("/v1/posts/{post}", *PEOPLE),
    "list_post_reactions": of_whom_one_may_see("/v1/posts/{post}/reactions", *PEOPLE, lists=acted),
    "list_reposts": of_whom_one_may_see("/v1/posts/{post}/reposts", *PEOPLE, lists=acted),
    "list_post_comments": of_whom_one_may_see("/v1/posts/{post}/comments", *PEOPLE, "comment", lists=acted),
    "get_comment": of_whom_one_may_see("/v1/comments/{comment}", *PEOPLE, "comment", outlives=True),
    "list_replies": of_whom_one_may_see("/v1/comments/{comment}/replies", *PEOPLE, "reply", lists=acted, outlives=True),
    "list_comment_reactions": of_whom_one_may_see("/v1/comments/{comment}/reactions", *PEOPLE, lists=acted),
    "list_chats": Surface("/v1/chats", World.sees, in_touch, PEOPLE),
    "list_messages": Surface(
        "/v1/chats/{username}/messages", World.sees, in_touch, (*PEOPLE, "message"), lists=itself, between=True
    ),
    "get_feed": Surface("/v1/feed", World.may_be_fed, World.is_fed, POSTS),
    "list_notifications": Surface("/v1/notifications", World.hears, World.is_addressed, PEOPLE),
    "list_reports": Surface("/v1/reports", nobody, nobody, (), forbidden=True),
}
