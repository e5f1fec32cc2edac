"""Comments: their types, rules and events."""

from typing import ClassVar, Final

import msgspec
import regex

from shared.engagement.model import Engaged
from shared.kernel.codec import Rules
from shared.kernel.events import Event
from shared.kernel.problems import FieldError
from shared.media.model import Media
from shared.posts.model import NewMedia
from shared.profiles.model import UserCard

MAX_TEXT: Final = 2200
# Something to see: neither space nor control or format character, and none of the letters that are blank.
_VISIBLE: Final = regex.compile(r"[^\s\p{C}\u115f\u1160\u3164\uffa0\u2800]")


def trimmed(text: str) -> str:
    """A text as it is kept; empty where there is nothing to see."""
    return text.strip() if _VISIBLE.search(text) else ""


def text_faults(text: str) -> list[FieldError]:
    """What is wrong with a text; whether it may be empty depends on the attachment."""
    if len(text.strip()) > MAX_TEXT:
        return [FieldError("text", "wrong_length", f"At most {MAX_TEXT} characters.")]
    return []


BLANK: Final = FieldError("text", "blank", "A comment without an attachment has a text.")


def _blank_faults(text: str, attachment: NewMedia | None) -> list[FieldError]:
    return [BLANK] if attachment is None and not trimmed(text) else []


class NewComment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A comment to be made. `text` may be empty beside an attachment: a photo or video, uploaded as a post's are."""

    text: str
    attachment: NewMedia | None = None

    RULES: ClassVar[Rules] = {"text": text_faults, ("text", "attachment"): _blank_faults}


class CommentEdit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The new text of a comment. It may be empty beside an attachment."""

    text: str

    RULES: ClassVar[Rules] = {"text": text_faults}


class CommentCounts(msgspec.Struct, frozen=True):
    """How often people reacted, and how many direct replies are shown."""

    reactions: int
    replies: int


class CommentViewer(msgspec.Struct, frozen=True):
    """What the one who looks has done with a comment."""

    reaction: str | None


class CommentCore(msgspec.Struct, frozen=True):
    """A comment but for its author and its viewer: the part that is the same for all, and cached encoded.

    `mentions` come first: shared/profiles/mentions.py reads them there.
    """

    mentions: list[str]
    id: str
    post_id: str
    parent_id: str | None
    text: str | None
    attachment: Media | None
    created_at: int
    edited_at: int | None
    deleted_at: int | None
    counts: CommentCounts
    reactions: dict[str, int]


class Comment(CommentCore, frozen=True):
    """A comment. `mentions` are usernames, of those who are there and may be seen; `viewer` is null for visitors.

    One that was deleted and has replies stays as a tombstone: `deleted_at` is set, and author, text and attachment are
    null.
    """

    author: UserCard | None
    viewer: CommentViewer | None


class CommentCreated(Event, frozen=True):
    """A comment or reply was made."""

    comment_id: int
    post_id: int
    author_id: int
    parent_id: int | None


class CommentEdited(Event, frozen=True):
    """A comment was edited. `mentioned` are those whom it mentioned before."""

    comment_id: int
    mentioned: list[str]


class CommentDeleted(Event, frozen=True):
    """A comment was deleted. `above` are those it hung on that changed with it, nearest first."""

    comment_id: int
    post_id: int
    author_id: int
    above: list[int]


class CommentReacted(Engaged, frozen=True):
    """Somebody reacted to a comment, otherwise than before, or no more."""

    part = "reaction"
