"""The SQL of feeds."""

import msgspec

from shared.kernel import db


class EntryRow(msgspec.Struct, frozen=True):
    """A post in a feed; `reposter_id` is null for the author's own entry. `position` orders it."""

    position: int
    post_id: int
    author_id: int
    reposter_id: int | None


# The newest posts and reposts of each who is followed (two index ranges each), then the newest of those.
OF_USER = db.Statement(
    """SELECT entry.position, entry.post_id, entry.author_id, entry.reposter_id
         FROM (SELECT other_id AS id FROM relationships WHERE user_id = :user_id AND follow_id IS NOT NULL
               UNION ALL SELECT CAST(:user_id AS bigint)) teller
        CROSS JOIN LATERAL (
          (SELECT id AS position, id AS post_id, author_id, CAST(NULL AS bigint) AS reposter_id FROM posts
            WHERE author_id = teller.id AND deleted_at IS NULL AND id < :before ORDER BY id DESC LIMIT :limit)
          UNION ALL
          (SELECT e.repost_id, p.id, p.author_id, e.user_id
             FROM engagements e JOIN posts p ON p.id = e.subject_id AND p.deleted_at IS NULL
            WHERE e.user_id = teller.id AND e.repost_id < :before ORDER BY e.repost_id DESC LIMIT :limit)
        ) entry
        ORDER BY entry.position DESC LIMIT :limit""",
    EntryRow,
)
# Touches a row only for the first who marks the effect.
MARK = db.Statement("INSERT INTO effects_done (effect, done_at) VALUES (:effect, :now) ON CONFLICT DO NOTHING")
