"""The SQL of comments."""

from typing import Any, Final

import msgspec

from shared.comments.model import CommentReacted
from shared.engagement.model import change_sql
from shared.kernel import db
from shared.kernel.moving import wanted_sql
from shared.posts.reads import PostRow
from shared.profiles.reads import UserRow
from shared.visibility.model import MAY_SEE_SQL, SEEN_OF_SQL, SEES_SQL


class CommentRow(msgspec.Struct, frozen=True):
    """A comment, deleted ones too. `reply_count` counts replies that are shown; `gone`: deleted, and without any."""

    id: int
    post_id: int
    post_author_id: int
    parent_id: int | None
    author_id: int
    text: str
    attachment: dict[str, Any] | None
    mentions: list[str]
    created_at: int
    edited_at: int | None
    deleted_at: int | None
    gone: bool
    reaction_count: int
    reply_count: int
    reactions: dict[str, int]
    version: int


class EngagedRow(CommentRow, frozen=True):
    """A comment after its engagement with a user was changed, or found as wished; what its author's card is made of.

    `changed`: whether there was anything to change. `visible`: whether the user may see the comment. Comments are
    neither saved nor reposted. `seen` are those whom it mentions and the user may see.
    """

    username: str
    name: str
    picture: dict[str, Any] | None
    changed: bool
    emoji: str | None
    saved: bool
    reposted: bool
    engagement_version: int
    act_id: int
    visible: bool
    seen: list[str]


class MadeRow(msgspec.Struct, frozen=True):
    """What came of making a comment: who wanted to, if there is a post; what was made, what it hangs on, and its post.

    `parent_deleted`: what it was to reply to may be seen, but was deleted.
    """

    author: UserRow | None
    comment: CommentRow | None
    parent: CommentRow | None
    post: PostRow | None
    parent_deleted: bool


class EditedRow(msgspec.Struct, frozen=True):
    """An edited comment, its author, and what they have reacted to it with themselves."""

    comment: CommentRow
    author: UserRow
    reaction: str | None


class DeletedRow(msgspec.Struct, frozen=True):
    """A deleted comment, those above it that changed with it, nearest first, and its post."""

    comment: CommentRow
    above: list[CommentRow]
    post: PostRow


class SeenRow(msgspec.Struct, frozen=True):
    """A comment that is not gone, and whether `:user_id` may see it."""

    comment: CommentRow
    visible: bool


class EntryRow(msgspec.Struct, frozen=True):
    """A comment in a list, and its author."""

    position: int
    author_id: int


class CommentedRow(msgspec.Struct, frozen=True, array_like=True):
    """A post that a user commented on, by their newest comment there; and the post's author."""

    position: int
    post_id: int
    author_id: int

    @property
    def id(self) -> int:
        """The post, wherever it is in the list."""
        return self.post_id


class BelowRow(msgspec.Struct, frozen=True):
    """A comment on a post, and whom it mentions."""

    id: int
    author_id: int
    mentions: list[str]
    post_id: int


class SaidRow(msgspec.Struct, frozen=True):
    """What one user said in one place: the newest comment that still stands, as of a version of the post."""

    newest_id: int | None
    version: int


_COLUMNS: Final = ", ".join(field.name for field in msgspec.structs.fields(CommentRow))
_QUALIFIED: Final = ", ".join(f"c.{field.name}" for field in msgspec.structs.fields(CommentRow))
_POST_COLUMNS: Final = ", ".join(f"p.{field.name}" for field in msgspec.structs.fields(PostRow))
_USER_COLUMNS: Final = ", ".join(f"u.{field.name}" for field in msgspec.structs.fields(UserRow))
_ME: Final = f"(SELECT to_json(me) FROM (SELECT {_USER_COLUMNS} FROM users u WHERE u.id = :user_id) me)"

# Of those mentioned, who may be: in order.
_NAMED: Final = f"""SELECT {SEEN_OF_SQL.format(names="CAST(:mentions AS text[])")} AS mentions"""

# One statement, one round trip: the comment, the counts of what it hangs on and of its post, the event, and all that
# the answer shows. What it replies to is locked before the post, as by who deletes: so that no two wait for each other.
# Both are judged as they are once they are locked: there is no reply to a comment, and no comment on a post, that was
# deleted meanwhile.
_MAKE: Final = """
WITH {parent}post AS MATERIALIZED (
  SELECT p.id, p.author_id, {me} AS me
    FROM posts p JOIN users a ON a.id = p.author_id AND a.state = 'active'
    JOIN users me ON me.id = :user_id AND me.state = 'active'
   WHERE p.id = {post_id} AND p.deleted_at IS NULL AND {may_see}
), counted AS (
  UPDATE posts p SET comment_count = p.comment_count + 1, version = p.version + 1 FROM post{alive}
   WHERE p.id = post.id AND p.deleted_at IS NULL
  RETURNING {posts}
), named AS MATERIALIZED (
  {named}
), {grown}, made AS (
  INSERT INTO comments AS c (id, post_id, post_author_id, parent_id, author_id, text, attachment, mentions, created_at)
  SELECT :id, counted.id, counted.author_id, grown.id, :user_id, :text, CAST(:attachment AS jsonb), named.mentions, :now
    FROM counted, named, grown
  RETURNING {comment}
), told AS (
  INSERT INTO outbox (topic, payload, trace, created_at)
  SELECT 'comment_created',
         convert_to(CAST(json_build_object('comment_id', id, 'post_id', post_id, 'author_id', author_id,
                                           'parent_id', parent_id) AS text), 'UTF8'),
         :trace, :now
    FROM made
)
SELECT (SELECT me FROM post), (SELECT to_json(made) FROM made), {hangs_on}, (SELECT to_json(counted) FROM counted),
       {parent_deleted}
"""
_SHARED: Final = {
    "may_see": MAY_SEE_SQL.format(other="p.author_id"),
    "named": _NAMED,
    "comment": _QUALIFIED,
    "posts": _POST_COLUMNS,
    "me": db.json_of("me", UserRow),
}
MAKE = db.Statement(
    _MAKE.format(
        **_SHARED,
        parent="",
        post_id=":post_id",
        alive="",
        grown="grown AS (SELECT CAST(NULL AS bigint) AS id)",
        hangs_on="CAST(NULL AS json)",
        parent_deleted="false",
    ),
    MadeRow,
)
REPLY = db.Statement(
    _MAKE.format(
        **_SHARED,
        parent=f"""parent AS MATERIALIZED (
  SELECT c.id, c.post_id, c.deleted_at FROM comments c
   WHERE c.id = :parent_id AND NOT c.gone AND (c.deleted_at IS NOT NULL OR ({SEES_SQL.format(other="c.author_id")}))
     FOR NO KEY UPDATE
), """,
        post_id="(SELECT post_id FROM parent)",
        alive=" JOIN parent ON parent.deleted_at IS NULL",
        grown=f"""grown AS (
  UPDATE comments c SET reply_count = c.reply_count + 1, version = c.version + 1
    FROM parent, counted WHERE c.id = parent.id
  RETURNING {_QUALIFIED}
)""",
        hangs_on="(SELECT to_json(grown) FROM grown)",
        parent_deleted="EXISTS (SELECT FROM parent, post WHERE parent.deleted_at IS NOT NULL)",
    ),
    MadeRow,
)
# The instant grows with each edit: what is told of a comment goes by it.
EDIT = db.Statement(
    f"""WITH named AS MATERIALIZED (
  {_NAMED}
), edited AS (
  UPDATE comments c SET text = :text, mentions = named.mentions, version = c.version + 1,
         edited_at = greatest(:now, coalesce(c.edited_at, c.created_at) + 1)
    FROM named, posts p
   WHERE c.id = :id AND c.author_id = :user_id AND c.deleted_at IS NULL AND (:text <> '' OR c.attachment IS NOT NULL)
     AND p.id = c.post_id AND p.deleted_at IS NULL AND {SEES_SQL.format(other="p.author_id")}
  RETURNING {_QUALIFIED}, old.mentions AS mentioned
), told AS (
  INSERT INTO outbox (topic, payload, trace, created_at)
  SELECT 'comment_edited',
         convert_to(CAST(json_build_object('comment_id', id, 'mentioned', mentioned) AS text), 'UTF8'), :trace, :now
    FROM edited
)
SELECT to_json(edited), {_ME},
       (SELECT e.emoji FROM engagements e WHERE e.subject_id = :id AND e.user_id = :user_id)
  FROM edited""",
    EditedRow,
)
# Deletions on one post come one after another, so that the next statement sees what all before it did. Making comments
# doesn't wait for that: it changes no comment that is deleted.
LOCK_DELETIONS = db.Statement(
    "SELECT pg_advisory_xact_lock(post_id) IS NOT NULL FROM comments WHERE id = :id",
)
# The comment, and then up from it: what is deleted and has lost its last reply that was shown is gone with it.
_DELETE = f"""WITH RECURSIVE deleted AS (
  UPDATE comments c SET deleted_at = greatest(:now, coalesce(c.edited_at, c.created_at) + 1),
         gone = c.reply_count = 0, version = c.version + 1
    FROM posts p
   WHERE c.id = :id AND c.deleted_at IS NULL AND p.id = c.post_id AND p.deleted_at IS NULL AND {{may}}
  RETURNING {_QUALIFIED}
), chain AS (
  SELECT parent_id AS id FROM deleted WHERE gone AND parent_id IS NOT NULL
   UNION ALL
  SELECT c.parent_id FROM chain JOIN comments c ON c.id = chain.id
   WHERE c.deleted_at IS NOT NULL AND c.reply_count = 1 AND c.parent_id IS NOT NULL
), shrunk AS (
  UPDATE comments c SET reply_count = c.reply_count - 1, gone = c.deleted_at IS NOT NULL AND c.reply_count = 1,
         version = c.version + 1
    FROM chain WHERE c.id = chain.id
  RETURNING {_QUALIFIED}
), above AS MATERIALIZED (
  SELECT coalesce(json_agg(shrunk ORDER BY id DESC), '[]') AS comments,
         coalesce(json_agg(id ORDER BY id DESC), '[]') AS ids FROM shrunk
), counted AS (
  UPDATE posts p SET comment_count = p.comment_count - 1, version = p.version + 1
    FROM deleted, above WHERE p.id = deleted.post_id
  RETURNING {_POST_COLUMNS}
), told AS (
  INSERT INTO outbox (topic, payload, trace, created_at)
  SELECT 'comment_deleted',
         convert_to(CAST(json_build_object('comment_id', d.id, 'post_id', d.post_id, 'author_id', d.author_id,
                                           'above', above.ids) AS text), 'UTF8'),
         :trace, :now
    FROM deleted d, above
)
SELECT to_json(deleted), above.comments, to_json(counted) FROM deleted, above, counted"""
# By its author, or whose post it is, hidden from them or not: what is one's own can always be taken back.
DELETE = db.Statement(
    _DELETE.format(may=":user_id IN (c.author_id, c.post_author_id)"),
    DeletedRow,
)
# For moderators.
REMOVE = db.Statement(_DELETE.format(may="true"), DeletedRow)
# Why a change was refused.
SEEN = db.Statement(
    f"""SELECT to_json(s), s.post_is_there AND {SEES_SQL.format(other="s.post_author_id")}
              AND (s.deleted_at IS NOT NULL OR ({SEES_SQL.format(other="s.author_id")}))
         FROM (SELECT {_QUALIFIED}, p.deleted_at IS NULL AS post_is_there
                 FROM comments c JOIN posts p ON p.id = c.post_id WHERE c.id = :id AND NOT c.gone) s""",
    SeenRow,
)
BY_IDS = db.Statement(f"SELECT {_COLUMNS} FROM comments WHERE id = ANY(CAST(:ids AS bigint[]))", CommentRow)
# Both lists at once: a subject is a post or a comment, and ids are unique across kinds.
OF_SUBJECT = db.Statement(
    """(SELECT id, author_id FROM comments
         WHERE post_id = :subject_id AND parent_id IS NULL AND NOT gone AND id < :before ORDER BY id DESC LIMIT :limit)
       UNION ALL
       (SELECT id, author_id FROM comments
         WHERE parent_id = :subject_id AND NOT gone AND id < :before ORDER BY id DESC LIMIT :limit)""",
    EntryRow,
)
# What is said on an author's posts, a batch at a time, by posts and then oldest first: an index range.
BELOW = db.Statement(
    """SELECT id, author_id, mentions, post_id FROM comments
        WHERE post_author_id = :author_id AND NOT gone
          AND (post_id, id) > (CAST(:post_id AS bigint), CAST(:after AS bigint)) AND post_id <= :last_post_id
        ORDER BY post_id, id LIMIT :limit""",
    BelowRow,
)
# Each post once, where the newest comment stands: a look-up for each comment in the range. Of NOT EXISTS Postgres may
# make a join with all that the user ever said.
COMMENTED = db.Statement(
    f"""SELECT c.id, c.post_id, c.post_author_id FROM comments c
        WHERE c.author_id = :user_id AND c.deleted_at IS NULL AND {wanted_sql("c.id", "c.post_id")}
          AND EXISTS (SELECT FROM comments n WHERE n.author_id = :user_id AND n.post_id = c.post_id
                         AND n.id > c.id AND n.deleted_at IS NULL) IS NOT TRUE
        ORDER BY c.id DESC LIMIT :limit""",
    CommentedRow,
)
# What `:author_id` said on a post, but for replies to its owner, which are told as such: a look-up for each of those
# that is newer; with NOT EXISTS it would be a join, for which Postgres may read all comments there are. Each comment
# made or deleted moves the post's version, so nothing is newer under the same one.
SAID_ON_POST = db.Statement(
    """SELECT (SELECT c.id FROM comments c
                WHERE c.author_id = :author_id AND c.post_id = :post_id AND c.deleted_at IS NULL
                  AND (SELECT parent.author_id FROM comments parent WHERE parent.id = c.parent_id)
                      IS DISTINCT FROM c.post_author_id
                ORDER BY c.id DESC LIMIT 1), version
         FROM posts WHERE id = :post_id""",
    SaidRow,
)
SAID_IN_REPLY = db.Statement(
    """SELECT (SELECT id FROM comments
                WHERE author_id = :author_id AND parent_id = :parent_id AND deleted_at IS NULL
                ORDER BY id DESC LIMIT 1), version
         FROM posts WHERE id = :post_id""",
    SaidRow,
)


_THERE: Final = """comments s JOIN posts p ON p.id = s.post_id JOIN users u ON u.id = s.author_id
   WHERE s.id = :subject_id AND s.deleted_at IS NULL AND p.deleted_at IS NULL"""
_VISIBLE: Final = f"""(u.state = 'active' AND {MAY_SEE_SQL.format(other="s.author_id")}
   AND {SEES_SQL.format(other="s.post_author_id")})"""


def _reaction(*, undo: bool) -> db.Statement[EngagedRow]:
    sql = change_sql(CommentReacted, undo=undo, kind="comment", there=_THERE, visible=_VISIBLE, columns=_COLUMNS)
    return db.Statement(sql, EngagedRow)


REACT, UNREACT = _reaction(undo=False), _reaction(undo=True)
