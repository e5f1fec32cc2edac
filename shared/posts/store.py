"""The SQL of posts."""

from typing import Any

import msgspec

from shared.engagement.model import Engaged, PostReacted, PostReposted, PostSaved, change_sql
from shared.kernel import db
from shared.visibility.model import MAY_SEE_SQL


class PostRow(msgspec.Struct, frozen=True):
    """A post, deleted ones too."""

    id: int
    author_id: int
    type: str
    media: list[dict[str, Any]]
    description: str
    mentions: list[str]
    hashtags: list[str]
    created_at: int
    edited_at: int | None
    deleted_at: int | None
    version: int
    reaction_count: int
    comment_count: int
    repost_count: int
    save_count: int
    reactions: dict[str, int]


class EngagedRow(PostRow, frozen=True):
    """A post after its engagement with a user was changed, or found as wished; what its author's card is made of.

    `changed`: whether there was anything to change; `act_id` is then what was done or undone. `visible`: whether the
    user may see the post. `seen` are those whom it mentions and the user may see.
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


class ListedRow(msgspec.Struct, frozen=True, array_like=True):
    """A post in a list, by the id that orders it."""

    position: int
    post_id: int
    author_id: int


class MentionRow(msgspec.Struct, frozen=True):
    """A mention, or one that was taken out (`mention_id` null)."""

    user_id: int
    mention_id: int | None
    version: int


class IdRow(msgspec.Struct, frozen=True):
    """The id of a post."""

    id: int


_COLUMNS = (
    "id, author_id, type, media, description, mentions, hashtags, created_at, edited_at, deleted_at, version,"
    " reaction_count, comment_count, repost_count, save_count, reactions"
)

INSERT = db.Statement(
    f"""INSERT INTO posts (id, author_id, type, media, description, mentions, hashtags, created_at)
        VALUES (:id, :author_id, :type, CAST(:media AS jsonb), :description,
                CAST(:mentions AS text[]), CAST(:hashtags AS text[]), :now) RETURNING {_COLUMNS}""",
    PostRow,
)
COUNT_POST = db.Statement("UPDATE users SET post_count = post_count + :step, version = version + 1 WHERE id = :user_id")
# Returns the row only if this call deleted it, so that counts and events come once.
DELETE = db.Statement(
    f"""UPDATE posts SET deleted_at = :now, version = version + 1
         WHERE id = :id AND author_id = :author_id AND deleted_at IS NULL RETURNING {_COLUMNS}""",
    PostRow,
)
BY_IDS = db.Statement(f"SELECT {_COLUMNS} FROM posts WHERE id = ANY(CAST(:ids AS bigint[]))", PostRow)
OF_AUTHOR = db.Statement(
    """SELECT id FROM posts WHERE author_id = :author_id AND deleted_at IS NULL AND id < :before
        ORDER BY id DESC LIMIT :limit""",
    IdRow,
)

_THERE = "posts s JOIN users u ON u.id = s.author_id WHERE s.id = :subject_id AND s.deleted_at IS NULL"
# Those that `:user_id` may see: of an author who is there, with no block between them.
_VISIBLE = f"(u.state = 'active' AND {MAY_SEE_SQL.format(other='s.author_id')})"


def _change(event: type[Engaged], *, undo: bool = False) -> db.Statement[EngagedRow]:
    sql = change_sql(event, undo=undo, kind="post", there=_THERE, visible=_VISIBLE, columns=_COLUMNS)
    return db.Statement(sql, EngagedRow)


REACT, UNREACT = _change(PostReacted), _change(PostReacted, undo=True)
SAVE, UNSAVE = _change(PostSaved), _change(PostSaved, undo=True)
REPOST, UNDO_REPOST = _change(PostReposted), _change(PostReposted, undo=True)

# For an edit: it is judged by what the post is, and nobody changes it meanwhile.
LOCK = db.Statement(f"SELECT {_COLUMNS} FROM posts WHERE id = :id AND deleted_at IS NULL FOR NO KEY UPDATE", PostRow)
EDIT = db.Statement(
    f"""UPDATE posts SET description = :description, media = CAST(:media AS jsonb),
               mentions = CAST(:mentions AS text[]), hashtags = CAST(:hashtags AS text[]),
               edited_at = greatest(:now, coalesce(edited_at, 0) + 1), version = version + 1
         WHERE id = :id RETURNING {_COLUMNS}""",
    PostRow,
)
# Who is mentioned from now on: those who were already stay as they are, the rest are taken out.
SET_MENTIONS = db.Statement(
    """WITH gone AS (
         UPDATE mentions SET mention_id = NULL, version = version + 1
          WHERE post_id = :post_id AND mention_id IS NOT NULL AND user_id <> ALL(CAST(:user_ids AS bigint[]))
       )
       INSERT INTO mentions AS m (post_id, user_id, mention_id)
       SELECT :post_id, user_id, :mention_id FROM unnest(CAST(:user_ids AS bigint[])) AS wanted (user_id)
       ON CONFLICT (post_id, user_id) DO UPDATE SET mention_id = excluded.mention_id, version = m.version + 1
         WHERE m.mention_id IS NULL"""
)
MENTIONS = db.Statement("SELECT user_id, mention_id, version FROM mentions WHERE post_id = :post_id", MentionRow)


def _of_acts(act: str) -> db.Statement[ListedRow]:
    return db.Statement(
        f"""SELECT e.{act}_id, p.id, p.author_id
              FROM engagements e JOIN posts p ON p.id = e.subject_id AND p.deleted_at IS NULL
             WHERE e.user_id = :user_id AND e.kind = 'post' AND e.{act}_id < :before
             ORDER BY e.{act}_id DESC LIMIT :limit""",
        ListedRow,
    )


# Lists of a user's, newest act first: an index range each.
SAVED = _of_acts("save")
REACTED = _of_acts("reaction")
MENTIONING = db.Statement(
    """SELECT m.mention_id, p.id, p.author_id
         FROM mentions m JOIN posts p ON p.id = m.post_id AND p.deleted_at IS NULL
        WHERE m.user_id = :user_id AND m.mention_id < :before ORDER BY m.mention_id DESC LIMIT :limit""",
    ListedRow,
)
