"""The SQL of posts."""

from typing import Any

import msgspec

from shared.engagement.model import Engaged, Part, PostReacted, PostReposted, PostSaved, change_sql
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

    `changed`: whether there was anything to change; `act_id` is then what was done or undone.
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

# Those that `:user_id` may see: what is there, of an author who is there, with no block between them.
_VISIBLE = f"""SELECT s.id, s.author_id FROM posts s JOIN users u ON u.id = s.author_id
   WHERE s.id = :subject_id AND s.deleted_at IS NULL AND u.state = 'active'
     AND {MAY_SEE_SQL.format(other="s.author_id")}"""


def _change(part: Part, event: type[Engaged], *, undo: bool = False) -> db.Statement[EngagedRow]:
    sql = change_sql(part, undo=undo, kind="post", event=event, target=_VISIBLE, columns=_COLUMNS)
    return db.Statement(sql, EngagedRow)


REACT, UNREACT = _change("reaction", PostReacted), _change("reaction", PostReacted, undo=True)
SAVE, UNSAVE = _change("save", PostSaved), _change("save", PostSaved, undo=True)
REPOST, UNDO_REPOST = _change("repost", PostReposted), _change("repost", PostReposted, undo=True)
