"""The SQL of posts."""

from typing import Any

import msgspec

from shared.kernel import db


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


class IdRow(msgspec.Struct, frozen=True):
    """The id of a post."""

    id: int


_COLUMNS = "id, author_id, type, media, description, mentions, hashtags, created_at, edited_at, deleted_at, version"

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
