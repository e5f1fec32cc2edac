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
