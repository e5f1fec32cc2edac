"""Feeds: what an entry is, and the event that fans one out."""

from typing import Final

from shared.kernel import ids
from shared.kernel.events import Event
from shared.kernel.timeline import Timeline

FEEDS: Final = Timeline("feed", keep=1000)


class FeedChunk(Event, frozen=True):
    """The next followers of `author_id`, past the follow `after`, are to hear of a post: made, or deleted."""

    post_id: int
    author_id: int
    after: int
    deleted: bool


def entry_of(post_id: int, author_id: int) -> str:
    """A post in a feed: the id that orders it, the post's, and its author's, so that a read needs no look-up for it."""
    entry = ids.encode(post_id)
    return f"{entry}{entry}{ids.encode(author_id)}"


def parts_of(entry: str) -> tuple[int, int, int]:
    """The ordering id, the post's and the author's of an entry."""
    n = ids.LENGTH
    return ids.decode(entry[:n]), ids.decode(entry[n : 2 * n]), ids.decode(entry[2 * n :])
