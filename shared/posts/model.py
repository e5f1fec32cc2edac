"""Posts: their types, rules and events."""

import unicodedata
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
import regex

from shared.kernel.codec import Rules
from shared.kernel.events import Event
from shared.kernel.problems import FieldError
from shared.media.model import Media
from shared.profiles.model import UserCard

PostType = Literal[
    "photo:portrait", "photo:square", "photo:landscape", "video:portrait", "video:square", "video:landscape", "reel"
]
MAX_MENTIONS: Final = 30
MAX_HASHTAGS: Final = 30

# A mention starts where no word or address goes on, nor a URL; a trailing dot ends the sentence, not the username.
_MENTION: Final = regex.compile(r"(?<![\w@.])(?<!://\S{0,200})@([A-Za-z0-9_.]{2,29}[A-Za-z0-9_])(?![\w@])")
# UTS #31, "Hashtag identifiers": letters, marks, numbers and joiners of any script.
_HASHTAG: Final = regex.compile(r"(?<![\w&#/])[#\uff03]([\p{L}\p{M}\p{N}_\u200c\u200d]{1,100}+)(?![\w\u200c\u200d])")

ObjectName = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Pixels = Annotated[int, msgspec.Meta(ge=1, le=20_000)]


class NewMedia(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A photo or video of a post: the names of its two uploaded objects, and its size in pixels."""

    actual: ObjectName
    placeholder: ObjectName
    width: Pixels
    height: Pixels
    alt_text: Annotated[str, msgspec.Meta(max_length=1000)] | None = None


def _media_faults(type: PostType, media: list[Any]) -> list[FieldError]:
    return [FieldError("media", "too_many", "A reel has one medium.")] if type == "reel" and len(media) > 1 else []


class NewPost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A post to be made. A reel has one medium."""

    RULES: ClassVar[Rules] = {("type", "media"): _media_faults}

    type: PostType
    media: Annotated[list[NewMedia], msgspec.Meta(min_length=1, max_length=10)]
    description: Annotated[str, msgspec.Meta(max_length=2200)]


class PostEdit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be changed of a post; what is left out stays. `alt_texts` has one a medium, null for none."""

    description: Annotated[str, msgspec.Meta(max_length=2200)] | msgspec.UnsetType = msgspec.UNSET
    alt_texts: (
        Annotated[list[Annotated[str, msgspec.Meta(max_length=1000)] | None], msgspec.Meta(max_length=10)]
        | msgspec.UnsetType
    ) = msgspec.UNSET


class Entity(msgspec.Struct, frozen=True):
    """A mention or hashtag in the description, for a link: its name, and where it is, sign included.

    `start` and `end` count code points; `end` is behind the last.
    """

    type: Literal["mention", "hashtag"]
    text: str
    start: int
    end: int


class PostCounts(msgspec.Struct, frozen=True):
    """How often people engaged with a post."""

    reactions: int
    comments: int
    reposts: int
    saves: int


class PostViewer(msgspec.Struct, frozen=True):
    """What the one who looks has done with a post."""

    reaction: str | None
    saved: bool
    reposted: bool


class PostCore(msgspec.Struct, frozen=True):
    """A post but for its author and its viewer: the part that is the same for all, and cached encoded.

    `mentions` come first: shared/profiles/mentions.py reads them there.
    """

    mentions: list[str]
    id: str
    type: str
    media: list[Media]
    description: str
    hashtags: list[str]
    entities: list[Entity]
    created_at: int
    edited_at: int | None
    counts: PostCounts
    reactions: dict[str, int]


class Post(PostCore, frozen=True):
    """A post. `mentions` are usernames; `hashtags` are without `#`, in lower case. `viewer` is null for visitors.

    Whom the viewer may not see, or who is gone, is in neither `mentions` nor `entities`; the description stays.

    `reposted_by` is there in feeds alone, where the post is shown as somebody's repost.
    """

    author: UserCard
    viewer: PostViewer | None
    reposted_by: UserCard | msgspec.UnsetType = msgspec.UNSET


class PostCreated(Event, frozen=True):
    """A post was made."""

    post_id: int
    author_id: int


class PostEdited(Event, frozen=True):
    """A post's description or alt texts were changed."""

    post_id: int
    author_id: int


class PostDeleted(Event, frozen=True):
    """A post was deleted."""

    post_id: int
    author_id: int


def mentions_in(text: str) -> list[str]:
    """The usernames mentioned, in lower case, once each, in order."""
    return _names("mention", text)[:MAX_MENTIONS]


def hashtags_in(text: str) -> list[str]:
    """The hashtags, normalised (NFKC, case folded), once each, in order. Digits alone are a number, not a tag."""
    return _names("hashtag", text)[:MAX_HASHTAGS]


# A post's card is made anew with each reaction, and its text is the same.
@lru_cache(1024)
def entities_in(text: str) -> tuple[Entity, ...]:
    """All that looks like a mention or hashtag, in order; whether there is such a user is not known here."""
    mentions = [Entity("mention", match[1].lower(), *match.span()) for match in _MENTION.finditer(text)]
    tags = [Entity("hashtag", _normalised(match[1]), *match.span()) for match in _HASHTAG.finditer(text)]
    found = [*mentions, *(tag for tag in tags if not tag.text.isnumeric())]
    return tuple(sorted(found, key=lambda entity: entity.start))


def _names(kind: Literal["mention", "hashtag"], text: str) -> list[str]:
    return list(dict.fromkeys(entity.text for entity in entities_in(text) if entity.type == kind))


def _normalised(tag: str) -> str:
    return unicodedata.normalize("NFKC", tag).casefold()
