"""The SQL of engagements: what a viewer has done, and lists. The statement that changes one is in the model."""

import msgspec

from shared.kernel import db


class IdRow(msgspec.Struct, frozen=True):
    """The id of a subject."""

    id: int


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
REPOST = db.Statement(
    """SELECT subject_id FROM engagements
        WHERE subject_id = :subject_id AND user_id = :user_id AND repost_id = :repost_id""",
    IdRow,
)
