"""The gate's rules. Pure: how one user stands to another, and what follows from it."""

from typing import Final

import msgspec


class Relation(msgspec.Struct, frozen=True):
    """How a viewer stands to another user, and whether that one has blocked the viewer."""

    following: bool = False
    blocking: bool = False
    muting: bool = False
    blocked_by: bool = False


STRANGERS: Final = Relation()


def may_see(relation: Relation) -> bool:
    """Whether the viewer may see the other's profile, posts and comments, find them, or be found by them.

    A block hides each from the other. Deleted and suspended users have no card, so nothing of theirs is shown.
    """
    return not (relation.blocking or relation.blocked_by)


def may_notify(relation: Relation) -> bool:
    """Whether the other's acts are told to the viewer: not across a block, nor from someone muted."""
    return may_see(relation) and not relation.muting


def lists_as_blocked(relation: Relation) -> bool:
    """Whether the viewer finds the other among those they have blocked, to take it back."""
    return relation.blocking and not relation.blocked_by


def lists_as_muted(relation: Relation) -> bool:
    """Whether the viewer finds the other among those they have muted."""
    return relation.muting and may_see(relation)


# Those whom `may_notify` lets tell `:user_id` nothing, for SQL that has to count without them. Two index look-ups.
MAY_NOT_NOTIFY_SQL: Final = """SELECT other_id FROM relationships
        WHERE user_id = :user_id AND (blocked_at IS NOT NULL OR muted_at IS NOT NULL)
       UNION ALL SELECT user_id FROM relationships WHERE other_id = :user_id AND blocked_at IS NOT NULL"""


# `may_see` for SQL: `other` is what holds the other's id. Two look-ups: of NOT EXISTS Postgres would make a join, and
# read all whom one has blocked, or is blocked by.
MAY_SEE_SQL: Final = """(
    (SELECT b.blocked_at FROM relationships b WHERE b.user_id = {other} AND b.other_id = :user_id) IS NULL
    AND (SELECT b.blocked_at FROM relationships b WHERE b.user_id = :user_id AND b.other_id = {other}) IS NULL)"""

# Whether `other` has blocked `:user_id`, for SQL. A look-up.
BLOCKED_BY_SQL: Final = """EXISTS (
    SELECT FROM relationships b WHERE b.user_id = {other} AND b.other_id = :user_id AND b.blocked_at IS NOT NULL)"""

# Whether the user with the id `other` is there, and `may_see` lets `:user_id` see them, for SQL. Three look-ups.
SEES_SQL: Final = "(EXISTS (SELECT FROM users v WHERE v.id = {other} AND v.state = 'active') AND " + MAY_SEE_SQL + ")"

# Whom of `names`, an array of usernames, SEES_SQL lets `:user_id` see, in order: a function of migration 0019.
SEEN_OF_SQL: Final = "CASE WHEN {names} = '{{}}' THEN {names} ELSE seen_of({names}, :user_id) END"


def shows_in_feed(relation: Relation, *, own: bool) -> bool:
    """Whether the other's posts belong in the viewer's feed."""
    return own or (relation.following and may_notify(relation))
