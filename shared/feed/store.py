"""The SQL of feeds."""

import msgspec

from shared.kernel import db


class EntryRow(msgspec.Struct, frozen=True):
    """A post in a feed."""

    post_id: int
    author_id: int


# The newest of each author followed (an index range each), then the newest of those.
OF_USER = db.Statement(
    """SELECT p.id, p.author_id
         FROM (SELECT other_id AS author_id FROM relationships WHERE user_id = :user_id AND follow_id IS NOT NULL
               UNION ALL SELECT CAST(:user_id AS bigint)) a
        CROSS JOIN LATERAL (SELECT id, author_id FROM posts
                             WHERE posts.author_id = a.author_id AND deleted_at IS NULL AND id < :before
                             ORDER BY id DESC LIMIT :limit) p
        ORDER BY p.id DESC LIMIT :limit""",
    EntryRow,
)
# Touches a row only for the first who marks the effect.
MARK = db.Statement("INSERT INTO effects_done (effect, done_at) VALUES (:effect, :now) ON CONFLICT DO NOTHING")
