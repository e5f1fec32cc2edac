"""Feeds: what an entry is, and the events that fan one out."""

from typing import Final

import msgspec

from shared.kernel import ids
from shared.kernel.cache_wire import Command
from shared.kernel.events import Event
from shared.kernel.timeline import Timeline

FEEDS: Final = Timeline("feed", keep=1000)
# What an author tells their followers, posts and reposts: merged into feeds on read where those are many.
TOLD: Final = Timeline("told", keep=1000)
# Feeds that more are to be merged into are read of Postgres: a page costs Redis about a microsecond for each.
MERGED_MOST: Final = 500


class FeedRepost(msgspec.Struct, frozen=True):
    """The repost that an entry is of: its id, and whose it is."""

    id: int
    user_id: int


class Entry(msgspec.Struct, frozen=True):
    """A post in a feed: by its author, or as somebody's repost."""

    post_id: int
    author_id: int
    repost: FeedRepost | None = None

    @property
    def position(self) -> int:
        """The id that orders it."""
        return self.post_id if self.repost is None else self.repost.id

    @property
    def teller(self) -> int:
        """Whose followers it is for."""
        return self.author_id if self.repost is None else self.repost.user_id

    def encoded(self) -> str:
        """Its form in Redis: the ids of position, post, author and reposter, so that a read needs no look-up for it."""
        numbers = [self.position, self.post_id, self.author_id, *([] if self.repost is None else [self.repost.user_id])]
        return "".join(map(ids.encode, numbers))


class FeedChunk(Event, frozen=True):
    """The next followers, past the follow `after`, are to hear of an entry: that it is there, or there no more."""

    post_id: int
    author_id: int
    after: int
    deleted: bool
    repost: FeedRepost | None = None


class RepostsChunk(Event, frozen=True):
    """The next reposts, before the repost `before`, of a post that was deleted: followers of each are to hear."""

    post_id: int
    author_id: int
    before: int


class AuthorErased(Event, frozen=True):
    """An account is erased: some who followed it are to hear that its posts and reposts (post, repost) are gone."""

    user_id: int
    username: str
    followers: list[int]
    post_ids: list[int]
    reposts: list[tuple[int, int]]


class TellersChunk(Event, frozen=True):
    """An author was suspended, or that no more: `version` of them. Who sees what is theirs is to read anew.

    That is their followers, and those of whoever made the next reposts of their posts, the newest first, before the
    repost `before` of `post_id`.
    """

    author_id: int
    version: int
    post_id: int = ids.MAX
    before: int = ids.MAX


class ReadersChunk(Event, frozen=True):
    """The next followers of `teller_id`, past the follow `after`, are to read anew for that reason."""

    author_id: int
    version: int
    teller_id: int
    after: int


class MergeChunk(Event, frozen=True):
    """The next followers, past the follow `after`, are to have an author merged into their feeds on read."""

    author_id: int
    rise_id: int
    after: int


def mark_of(author_id: int) -> str:
    """What says in a feed that an author is merged in."""
    return "~" + ids.encode(author_id)


def is_mark(member: str) -> bool:
    """Whether a member of a feed is such a mark, and no entry."""
    return member.startswith("~")


def decoded(text: str) -> Entry:
    """The entry behind its form in Redis."""
    n = ids.LENGTH
    position, post_id, author_id = ids.decode(text[:n]), ids.decode(text[n : 2 * n]), ids.decode(text[2 * n : 3 * n])
    if len(text) == 3 * n:
        return Entry(post_id, author_id)
    return Entry(post_id, author_id, FeedRepost(position, ids.decode(text[3 * n :])))


def shown(owners: list[int], entry: Entry, timeline: Timeline = FEEDS) -> Command:
    """The command that brings an entry into feeds. A repost that was undone stays out, however late this comes."""
    return timeline.add_to_all(owners, [entry.encoded()], act=None if entry.repost is None else entry.repost.id)


def withdrawn(owners: list[int], entry: Entry, timeline: Timeline = FEEDS) -> list[Command]:
    """The commands that take an entry out of feeds."""
    if entry.repost is None:
        return [timeline.remove_from_all(owners, [entry.encoded()])]
    return timeline.take_back(owners, [entry.encoded()], entry.repost.id)


def told(entry: Entry) -> list[Command]:
    """The commands that bring an entry into what its teller has told, and into their own feed."""
    return [shown([entry.teller], entry, timeline) for timeline in (FEEDS, TOLD)]


def taken_back(entry: Entry) -> list[Command]:
    """The commands that take an entry out of what its teller has told, and out of their own feed."""
    return [command for timeline in (FEEDS, TOLD) for command in withdrawn([entry.teller], entry, timeline)]
