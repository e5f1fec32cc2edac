"""Posts in Redis: `post:{id}` is the author's id and the encoded post but for its author's card and its viewer.

`posts:{user}` holds the newest ids of an author (shared/kernel/timeline.py); `saved:{user}`, `reacted:{user}` and
`mentioning:{user}` the newest posts that a user saved, reacted to, is mentioned in (shared/kernel/recent.py).
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from shared.engagement.model import Part
from shared.feed.model import Entry, taken_back, told
from shared.kernel import cache, db, ids
from shared.kernel.projection import put
from shared.kernel.recent import Recent
from shared.kernel.timeline import Timeline
from shared.live import publish as live
from shared.media import reads as media
from shared.posts import store
from shared.posts.model import PostCore, PostCounts, entities_in

OF_AUTHOR: Final = Timeline("posts", keep=1000)
SAVED: Final = Recent("saved", store.ListedRow, keep=200)
REACTED: Final = Recent("reacted", store.ListedRow, keep=200)
MENTIONING: Final = Recent("mentioning", store.ListedRow, keep=200)
_OF_USER: Final[dict[Part, Recent[store.ListedRow]]] = {"save": SAVED, "reaction": REACTED}


def key(post_id: int) -> str:
    """Where a post's card is."""
    return f"post:{ids.encode(post_id)}"


def core_of(row: store.PostRow) -> PostCore:
    """The part of a post that is the same for all."""
    return PostCore(
        id=ids.encode(row.id),
        type=row.type,
        media=[media.shown(medium) for medium in row.media],
        description=row.description,
        mentions=row.mentions,
        hashtags=row.hashtags,
        entities=[
            entity
            for entity in entities_in(row.description)
            if entity.text in (row.mentions if entity.type == "mention" else row.hashtags)
        ],
        created_at=row.created_at,
        edited_at=row.edited_at,
        counts=_counts(row),
        reactions=row.reactions,
    )


def _counts(row: store.PostRow) -> PostCounts:
    return PostCounts(row.reaction_count, row.comment_count, row.repost_count, row.save_count)


def to_subscribers(posts: Iterable[store.PostRow]) -> list[cache.Command]:
    """The commands that tell who subscribes to posts how they are counted; of deleted ones, that they are gone."""
    commands: list[cache.Command] = []
    for row in posts:
        if row.deleted_at is None:
            commands.append(live.metrics("post", row.id, row.version, _counts(row), row.reactions))
        else:
            commands += [live.changed(row.id, row.deleted_at), live.look_again(row.id)]
    return commands


def outdated(posts: Iterable[store.PostRow]) -> list[cache.Command]:
    """The commands after which nobody is told any more what posts said before they were last edited."""
    return [live.changed(row.id, row.edited_at) for row in posts if row.edited_at is not None]


def body(row: store.PostRow) -> bytes:
    """The cached form of a post; empty for a deleted one."""
    if row.deleted_at is not None:
        return b""
    return ids.encode(row.author_id).encode() + msgspec.json.encode(core_of(row))


def card(row: store.PostRow) -> cache.Command:
    """The command that projects a post's card: all that an engagement changes of it."""
    return put(key(row.id), row.version, body(row))


def engaged(row: store.PostRow, part: Part, user_id: int) -> list[cache.Command]:
    """The commands that project what an engagement of a user's changes of a post, and of the user's lists."""
    return [card(row), *([_OF_USER[part].changed(user_id)] if part in _OF_USER else [])]


def mentioned(mentions: Iterable[store.MentionRow]) -> list[cache.Command]:
    """The commands that project who is mentioned, or is no more, in a post."""
    return [MENTIONING.changed(mention.user_id) for mention in mentions]


def load_mentions(post_id: int) -> list[store.MentionRow]:
    """The mentions of Postgres, those taken out too."""
    with db.connection() as conn:
        return store.MENTIONS.all(conn, post_id=post_id)


def rows(posts: Iterable[store.PostRow]) -> list[cache.Command]:
    """The commands that project posts, and their place in their authors' lists."""
    commands: list[cache.Command] = []
    for row in posts:
        commands.append(card(row))
        live = row.deleted_at is None
        commands.append((OF_AUTHOR.add if live else OF_AUTHOR.remove)(row.author_id, [ids.encode(row.id)]))
        # Into the author's own feed at once: one reads one's own writes.
        entry = Entry(row.id, row.author_id)
        commands += told(entry) if live else taken_back(entry)
    return commands


def load(post_ids: Iterable[int]) -> list[store.PostRow]:
    """The posts of Postgres, deleted ones too."""
    with db.connection() as conn:
        return store.BY_IDS.all(conn, ids=list(post_ids))
