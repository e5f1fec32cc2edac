"""The gate's SQL."""

import msgspec

from shared.kernel import db


class RelationRow(msgspec.Struct, frozen=True):
    """One direction of a relationship. `outbound`: the viewer's own row; else the other's row about the viewer."""

    other_id: int
    outbound: bool
    following: bool
    blocking: bool
    muting: bool
    version: int


class PairRow(msgspec.Struct, frozen=True):
    """How one user stands to another, and whether that one has blocked them."""

    viewer_id: int
    other_id: int
    following: bool
    blocking: bool
    muting: bool
    blocked_by: bool


class FollowedByRow(msgspec.Struct, frozen=True):
    """Whether a user follows the one who asks."""

    user_id: int
    following: bool
    version: int


class ChatRow(msgspec.Struct, frozen=True):
    """A chat."""

    chat_id: int


# All that a viewer's map in Redis holds: own rows, and the blocks against them. Both parts are index look-ups.
OF_VIEWER = db.Statement(
    """SELECT other_id, true, follow_id IS NOT NULL, blocked_at IS NOT NULL, muted_at IS NOT NULL, version
         FROM relationships
        WHERE user_id = :viewer AND (follow_id IS NOT NULL OR blocked_at IS NOT NULL OR muted_at IS NOT NULL)
       UNION ALL
       SELECT user_id, false, false, true, false, version
         FROM relationships WHERE other_id = :viewer AND blocked_at IS NOT NULL""",
    RelationRow,
)
BETWEEN = db.Statement(
    """SELECT other_id, true, follow_id IS NOT NULL, blocked_at IS NOT NULL, muted_at IS NOT NULL, version
         FROM relationships WHERE user_id = :viewer AND other_id = ANY(CAST(:others AS bigint[]))
       UNION ALL
       SELECT user_id, false, false, blocked_at IS NOT NULL, false, version
         FROM relationships WHERE other_id = :viewer AND user_id = ANY(CAST(:others AS bigint[]))""",
    RelationRow,
)
# The same seen from one user towards many viewers, for what is sent to many at once.
TOWARDS = db.Statement(
    """SELECT user_id, true, follow_id IS NOT NULL, blocked_at IS NOT NULL, muted_at IS NOT NULL, version
         FROM relationships WHERE other_id = :other AND user_id = ANY(CAST(:viewers AS bigint[]))
       UNION ALL
       SELECT other_id, false, false, blocked_at IS NOT NULL, false, version
         FROM relationships WHERE user_id = :other AND other_id = ANY(CAST(:viewers AS bigint[]))""",
    RelationRow,
)
# Two look-ups a pair.
AMONG = db.Statement(
    """SELECT p.viewer, p.other, own.follow_id IS NOT NULL, own.blocked_at IS NOT NULL, own.muted_at IS NOT NULL,
              inbound.blocked_at IS NOT NULL
         FROM unnest(CAST(:viewers AS bigint[]), CAST(:others AS bigint[])) AS p (viewer, other)
         LEFT JOIN relationships own ON own.user_id = p.viewer AND own.other_id = p.other
         LEFT JOIN relationships inbound ON inbound.user_id = p.other AND inbound.other_id = p.viewer""",
    PairRow,
)
# A look-up each.
FOLLOWED_BY = db.Statement(
    """SELECT user_id, follow_id IS NOT NULL, version FROM relationships
        WHERE other_id = :viewer AND user_id = ANY(CAST(:others AS bigint[]))""",
    FollowedByRow,
)
ACCEPTED = db.Statement(
    "SELECT chat_id FROM chat_members WHERE user_id = :user_id AND other_id = :other_id AND box = 'inbox'", ChatRow
)
