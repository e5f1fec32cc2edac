"""The SQL of engagements: what a viewer has done, and lists. The statement that changes one is in the model."""

import msgspec

from shared.kernel import db


class ActsRow(msgspec.Struct, frozen=True):
    """The ids of what one user has done with one subject, null where it is undone."""

    reaction: int | None
    save: int | None
    repost: int | None
    version: int


class ViewerRow(msgspec.Struct, frozen=True):
    """What one of many users has done with a subject."""

    user_id: int
    emoji: str | None
    saved: bool
    reposted: bool


class EngagementRow(msgspec.Struct, frozen=True):
    """What one user has done with one subject; undone, a row of nothing."""

    subject_id: int
    emoji: str | None
    saved: bool
    reposted: bool
    version: int


class ActRow(msgspec.Struct, frozen=True, array_like=True):
    """Who engaged with a subject, by the id of the act; with which emoji, if they reacted."""

    position: int
    user_id: int
    emoji: str | None


_COLUMNS = "subject_id, emoji, save_id IS NOT NULL, repost_id IS NOT NULL, version"

# What a viewer's map in Redis is filled with: undone ones too, so that nothing older takes their place.
NEWEST_OF_USER = db.Statement(
    f"SELECT {_COLUMNS} FROM engagements WHERE user_id = :user_id ORDER BY subject_id DESC LIMIT :limit",
    EngagementRow,
)
# A look-up each.
OF_USER = db.Statement(
    f"SELECT {_COLUMNS} FROM engagements WHERE user_id = :user_id AND subject_id = ANY(CAST(:subjects AS bigint[]))",
    EngagementRow,
)
# A look-up each.
OF_VIEWERS = db.Statement(
    """SELECT user_id, emoji, save_id IS NOT NULL, repost_id IS NOT NULL FROM engagements
        WHERE subject_id = :subject_id AND user_id = ANY(CAST(:viewers AS bigint[]))""",
    ViewerRow,
)
# A look-up: the act of each part, null where it is undone.
ACTS = db.Statement(
    """SELECT reaction_id, save_id, repost_id, version FROM engagements
        WHERE subject_id = :subject_id AND user_id = :user_id""",
    ActsRow,
)
# Lists, newest first: an index range each.
REACTIONS = db.Statement(
    """SELECT reaction_id, user_id, emoji FROM engagements
        WHERE subject_id = :subject_id AND reaction_id < :before ORDER BY reaction_id DESC LIMIT :limit""",
    ActRow,
)
REACTIONS_WITH = db.Statement(
    """SELECT reaction_id, user_id, emoji FROM engagements
        WHERE subject_id = :subject_id AND emoji = :emoji AND reaction_id < :before
        ORDER BY reaction_id DESC LIMIT :limit""",
    ActRow,
)
REPOSTS = db.Statement(
    """SELECT repost_id, user_id, NULL FROM engagements
        WHERE subject_id = :subject_id AND repost_id < :before ORDER BY repost_id DESC LIMIT :limit""",
    ActRow,
)
