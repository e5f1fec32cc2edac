"""Comments in Redis: `comment:{id}` is whose it is, whose post, which post, and the encoded comment.

The encoded comment has neither its author's card nor its viewer. `comments:{subject}` holds the newest comments of a
post, or replies of a comment (shared/kernel/timeline.py): an entry is the comment's id and its author's.
`commented:{user}` holds the newest posts that a user commented on (shared/kernel/recent.py).
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from shared.comments import store
from shared.comments.model import CommentCore, CommentCounts
from shared.kernel import cache, db, ids
from shared.kernel.projection import put
from shared.kernel.recent import Recent
from shared.kernel.timeline import Timeline
from shared.live import publish as live
from shared.media import reads as media

LISTS: Final = Timeline("comments", keep=1000)
COMMENTED: Final = Recent("commented", store.CommentedRow, keep=100)
# Stands where the author of a tombstone would.
NOBODY: Final = 0
# Whose it is, whose post, which post.
HEAD: Final = 3 * ids.LENGTH


def key(comment_id: int) -> str:
    """Where a comment's card is."""
    return f"comment:{ids.encode(comment_id)}"


def member_of(comment_id: int, author_id: int) -> str:
    """A comment in a list: the id that orders it, and its author's, so that a read needs no look-up for it."""
    return ids.encode(comment_id) + ids.encode(author_id)


def entry_of(member: str) -> store.EntryRow:
    """What a member of a list says."""
    return store.EntryRow(ids.decode(member[: ids.LENGTH]), ids.decode(member[ids.LENGTH :]))


def core_of(row: store.CommentRow) -> CommentCore:
    """The part of a comment that is the same for all; of a deleted one what a tombstone shows."""
    there = row.deleted_at is None
    return CommentCore(
        id=ids.encode(row.id),
        post_id=ids.encode(row.post_id),
        parent_id=None if row.parent_id is None else ids.encode(row.parent_id),
        text=row.text if there else None,
        attachment=media.shown(row.attachment) if there and row.attachment else None,
        mentions=row.mentions if there else [],
        created_at=row.created_at,
        edited_at=row.edited_at if there else None,
        deleted_at=row.deleted_at,
        counts=_counts(row),
        reactions=row.reactions if there else {},
    )


def _counts(row: store.CommentRow) -> CommentCounts:
    return CommentCounts(row.reaction_count if row.deleted_at is None else 0, row.reply_count)


def to_subscribers(comments: Iterable[store.CommentRow]) -> list[cache.Command]:
    """The commands that tell who subscribes to comments how they are counted; of deleted ones, that they are gone."""
    commands: list[cache.Command] = []
    for row in comments:
        if row.deleted_at is None:
            commands.append(live.metrics("comment", row.id, row.version, _counts(row), row.reactions))
        else:
            commands += [live.changed(row.id, row.deleted_at), live.look_again(row.id)]
    return commands


def body(row: store.CommentRow) -> bytes:
    """The cached form of a comment; empty for one that is gone."""
    if row.gone:
        return b""
    author = NOBODY if row.deleted_at is not None else row.author_id
    head = ids.encode(author) + ids.encode(row.post_author_id) + ids.encode(row.post_id)
    return head.encode() + msgspec.json.encode(core_of(row))[:-1]


def author_of(body: bytes) -> int:
    """Whose a cached comment is; NOBODY for a tombstone."""
    return ids.decode(body[: ids.LENGTH].decode())


def post_of(body: bytes) -> tuple[int, int]:
    """The author and the id of the post that a cached comment is on."""
    head = body[ids.LENGTH : HEAD].decode()
    return ids.decode(head[: ids.LENGTH]), ids.decode(head[ids.LENGTH :])


def core_in(body: bytes) -> bytes:
    """The encoded core of a cached comment."""
    return body[HEAD:] + b"}"


def spliced(body: bytes, card: bytes, viewer: bytes) -> bytes:
    """A whole comment of its cached form, its author's card, and what the viewer has done."""
    return b'%b,"author":%b,"viewer":%b}' % (body[HEAD:], card, viewer)


def rows(comments: Iterable[store.CommentRow]) -> list[cache.Command]:
    """The commands that project comments, and their place in their lists and their authors'."""
    commands: list[cache.Command] = []
    for row in comments:
        commands.append(card(row))
        place = LISTS.remove if row.gone else LISTS.add
        commands.append(place(row.parent_id or row.post_id, [member_of(row.id, row.author_id)]))
        commands.append(COMMENTED.changed(row.author_id))
    return commands


def card(row: store.CommentRow) -> cache.Command:
    """The command that projects a comment whose place in its list has not changed."""
    return put(key(row.id), row.version, body(row))


def load(comment_ids: Iterable[int]) -> list[store.CommentRow]:
    """The comments of Postgres, deleted ones too."""
    with db.connection() as conn:
        return store.BY_IDS.all(conn, ids=list(comment_ids))
