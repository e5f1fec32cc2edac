"""The SQL of feeds."""

import msgspec

from shared.kernel import db


class AuthorRow(msgspec.Struct, frozen=True):
    """An author who is merged into feeds on read."""

    id: int


class EntryRow(msgspec.Struct, frozen=True):
    """A post in a feed; `reposter_id` is null for the author's own entry. `position` orders it."""

    position: int
    post_id: int
    author_id: int
    reposter_id: int | None


class EntryForRow(EntryRow, frozen=True):
    """An entry that is told to `user_id`."""

    user_id: int


_POSTS = """SELECT id AS position, id AS post_id, author_id, CAST(NULL AS bigint) AS reposter_id FROM posts
            WHERE author_id = {teller} AND deleted_at IS NULL AND id {bounds} ORDER BY id DESC LIMIT {limit}"""
_REPOSTS = """SELECT e.repost_id, p.id, p.author_id, e.user_id
             FROM engagements e JOIN posts p ON p.id = e.subject_id AND p.deleted_at IS NULL
            WHERE e.user_id = {teller} AND e.repost_id {bounds} ORDER BY e.repost_id DESC LIMIT {limit}"""
_HEAD = {"teller": "teller.id", "bounds": "< :before", "limit": "(SELECT n FROM share)"}
_MORE = {
    "teller": "more.teller",
    "bounds": "BETWEEN (SELECT position FROM lowest) AND more.before - 1",
    "limit": "CAST(:limit AS bigint)",
}
# The first few of the posts and of the reposts of each who is followed (two index ranges each): the page can't reach
# below its last place among those. Then more, down to there, of those whose first few all lie above it. So the cost is
# that of the entries given and of some for each who is followed, not that of a whole feed for each.
OF_USER = db.Statement(
    f"""WITH teller AS MATERIALIZED (
          SELECT other_id AS id FROM relationships WHERE user_id = :user_id AND follow_id IS NOT NULL
             AND other_id <> ALL(CAST(:merged AS bigint[]))
          UNION ALL SELECT CAST(:user_id AS bigint)
        ), share AS MATERIALIZED (
          SELECT least(CAST(:limit AS bigint), 5 + 4 * CAST(:limit AS bigint) / count(*)) AS n FROM teller
        ), head AS MATERIALIZED (
          SELECT teller.id AS teller, entry.*
            FROM teller CROSS JOIN LATERAL (({_POSTS.format(**_HEAD)}) UNION ALL ({_REPOSTS.format(**_HEAD)})) entry
        ), lowest AS MATERIALIZED (
          SELECT coalesce((SELECT position FROM head ORDER BY position DESC
                           OFFSET CAST(:limit AS bigint) - 1 LIMIT 1), 0) AS position
        ), more AS MATERIALIZED (
          SELECT teller, reposter_id IS NOT NULL AS reposts, min(position) AS before FROM head GROUP BY 1, 2
          HAVING count(*) = (SELECT n FROM share) AND min(position) > (SELECT position FROM lowest)
        )
        SELECT position, post_id, author_id, reposter_id FROM (
          SELECT position, post_id, author_id, reposter_id FROM head
          UNION ALL
          SELECT entry.* FROM more CROSS JOIN LATERAL ({_POSTS.format(**_MORE)}) entry WHERE NOT more.reposts
          UNION ALL
          SELECT entry.* FROM more CROSS JOIN LATERAL ({_REPOSTS.format(**_MORE)}) entry WHERE more.reposts
        ) entry
        ORDER BY position DESC LIMIT CAST(:limit AS bigint)""",
    EntryRow,
)
_TOLD = {"teller": ":teller", "bounds": "< CAST(:before AS bigint)", "limit": ":limit"}
# The reposts of an author's posts: an index look-up for each of those that is passed.
REPOSTS_OF = db.Statement(
    """SELECT e.repost_id, p.id, p.author_id, e.user_id
         FROM posts p CROSS JOIN LATERAL (
           SELECT repost_id, user_id FROM engagements
            WHERE subject_id = p.id
              AND repost_id < CASE WHEN p.id = :post_id THEN CAST(:before AS bigint) ELSE CAST(:newest AS bigint) END
            ORDER BY repost_id DESC LIMIT :limit) e
        WHERE p.author_id = :author_id AND p.deleted_at IS NULL AND p.id <= :post_id
        ORDER BY p.id DESC, e.repost_id DESC LIMIT :limit""",
    EntryRow,
)
# What one author tells: two index ranges.
TOLD = db.Statement(
    f"""SELECT * FROM (({_POSTS.format(**_TOLD)}) UNION ALL ({_REPOSTS.format(**_TOLD)})) entry
         ORDER BY position DESC LIMIT :limit""",
    EntryRow,
)
# How a post is told to some users, the newest first: by its author, and of its reposts by the newest of them. A look-up
# for each of those and each user.
OF_POST = db.Statement(
    """WITH teller AS MATERIALIZED (
         SELECT author_id AS id, id AS position, id AS post_id, author_id, CAST(NULL AS bigint) AS reposter_id
           FROM posts WHERE id = :post_id AND deleted_at IS NULL
         UNION ALL (
         SELECT e.user_id, e.repost_id, p.id, p.author_id, e.user_id
           FROM engagements e JOIN posts p ON p.id = e.subject_id AND p.deleted_at IS NULL
          WHERE e.subject_id = :post_id AND e.repost_id IS NOT NULL ORDER BY e.repost_id DESC LIMIT :limit)
       )
       SELECT t.position, t.post_id, t.author_id, t.reposter_id, u.id
         FROM unnest(CAST(:user_ids AS bigint[])) AS u (id) CROSS JOIN teller t
        WHERE u.id = t.id OR EXISTS (SELECT FROM relationships r
                                      WHERE r.user_id = u.id AND r.other_id = t.id AND r.follow_id IS NOT NULL)
        ORDER BY t.position DESC""",
    EntryForRow,
)
# A look-up for each who is followed or merged, whichever are fewer.
MERGED = db.Statement(
    """SELECT m.user_id FROM merged_authors m JOIN relationships r ON r.other_id = m.user_id
        WHERE r.user_id = :user_id AND r.follow_id IS NOT NULL LIMIT :limit""",
    AuthorRow,
)
IS_SETTLED = db.Statement("SELECT user_id FROM merged_authors WHERE user_id = :user_id AND settled", AuthorRow)
IS_DELETED = db.Statement("SELECT id FROM users WHERE id = :user_id AND state = 'deleted'", AuthorRow)
# An author rises at `:many` followers, and falls below `:few`: between them they stay what they are.
CROSS = db.Statement(
    """WITH author AS (
         SELECT id, follower_count FROM users WHERE id = :author_id
       ), risen AS (
         INSERT INTO merged_authors (user_id, rise_id) SELECT id, :rise_id FROM author WHERE follower_count >= :many
         ON CONFLICT DO NOTHING RETURNING user_id, rise_id
       ), told AS (
         INSERT INTO outbox (topic, payload, trace, created_at)
         SELECT 'merge_chunk',
                convert_to(CAST(json_build_object('author_id', user_id, 'rise_id', rise_id, 'after', 0)
                                AS text), 'UTF8'), :trace, :now
           FROM risen
       )
       DELETE FROM merged_authors WHERE user_id IN (SELECT id FROM author WHERE follower_count < :few)"""
)
SETTLE = db.Statement("UPDATE merged_authors SET settled = true WHERE user_id = :author_id AND rise_id = :rise_id")
