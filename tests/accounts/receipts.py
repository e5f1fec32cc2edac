"""The receipt of an erasure, and what is left of whom it was of, as Postgres has them."""

import msgspec

from shared.kernel import db


class Receipt(msgspec.Struct, frozen=True):
    id: int
    counts: dict[str, int]
    begun_at: int
    ended_at: int | None
    email: str | None
    turn: int
    looks: int


class There(msgspec.Struct, frozen=True):
    count: int


RECEIPT = db.Statement(
    "SELECT id, counts, begun_at, ended_at, email, turn, looks FROM erasures WHERE user_id = :user_id", Receipt
)
LEFT = db.Statement(
    """SELECT (SELECT count(*) FROM relationships WHERE :user_id IN (user_id, other_id)
                  AND (follow_id IS NOT NULL OR blocked_at IS NOT NULL OR muted_at IS NOT NULL))
            + (SELECT count(*) FROM posts WHERE author_id = :user_id AND (deleted_at IS NULL OR media <> '[]'))
            + (SELECT count(*) FROM notifications WHERE user_id = :user_id)
            + (SELECT count(*) FROM notification_actors WHERE actor_id = :user_id)
            + (SELECT count(*) FROM sessions WHERE user_id = :user_id)
            + (SELECT count(*) FROM uploads WHERE user_id = :user_id)
            + (SELECT count(*) FROM exports WHERE user_id = :user_id)
            + (SELECT count(*) FROM signups WHERE email = :email)
            + (SELECT count(*) FROM idempotency_keys WHERE scope = :scope)""",
    There,
)
