"""Chat: its types, rules and events."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec

from shared.comments.model import trimmed
from shared.kernel import ids
from shared.kernel.codec import Rules
from shared.kernel.events import Event
from shared.kernel.pages import PageQuery
from shared.kernel.problems import FieldError
from shared.posts.model import ObjectName
from shared.profiles.model import UserCard

MAX_TEXT: Final = 4000
MAX_CAPTION: Final = 2200
EXCERPT: Final = 100
_HOUR_MS: Final = 3_600_000

Box = Literal["inbox", "requests"]
Status = Literal["sent", "delivered", "read"]
Caption = Annotated[str, msgspec.Meta(max_length=MAX_CAPTION)]
Title = Annotated[str, msgspec.Meta(max_length=200)]
FileName = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Milliseconds = Annotated[int, msgspec.Meta(ge=1, le=_HOUR_MS)]
ClientId = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
# A message's id in a body, or what can't be one.
AnyMessageId = Annotated[str, msgspec.Meta(min_length=1, max_length=30)]


class TextContent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="text"):
    """A text."""

    text: str


class NewVoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="voice"):
    """A recording, uploaded as audio, and how long it is."""

    object: ObjectName
    duration_ms: Milliseconds


class NewPhoto(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="photo"):
    """A photo and its placeholder, uploaded, with a caption perhaps."""

    actual: ObjectName
    placeholder: ObjectName
    caption: Caption | None = None


class NewVideo(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="video"):
    """A video and its placeholder, uploaded, with a caption perhaps."""

    actual: ObjectName
    placeholder: ObjectName
    caption: Caption | None = None


class NewAudio(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="audio"):
    """A piece of audio, uploaded, with a title perhaps."""

    object: ObjectName
    title: Title | None = None


class NewFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="file"):
    """A file, uploaded, and what it is called."""

    object: ObjectName
    name: FileName


NewContent = TextContent | NewVoice | NewPhoto | NewVideo | NewAudio | NewFile


class VoiceContent(msgspec.Struct, frozen=True, tag_field="type", tag="voice"):
    """A recording."""

    url: str
    duration_ms: int


class PhotoContent(msgspec.Struct, frozen=True, tag_field="type", tag="photo"):
    """A photo."""

    url: str
    placeholder_url: str
    caption: str | None


class VideoContent(msgspec.Struct, frozen=True, tag_field="type", tag="video"):
    """A video."""

    url: str
    placeholder_url: str
    caption: str | None


class AudioContent(msgspec.Struct, frozen=True, tag_field="type", tag="audio"):
    """A piece of audio."""

    url: str
    title: str | None


class FileContent(msgspec.Struct, frozen=True, tag_field="type", tag="file"):
    """A file."""

    url: str
    name: str


Content = TextContent | VoiceContent | PhotoContent | VideoContent | AudioContent | FileContent
# The fields that name objects, and what they are in answers.
URLS: Final = {"object": "url", "actual": "url", "placeholder": "placeholder_url"}


def _text_faults(content: Any) -> list[FieldError]:
    """What is wrong with the text of a message."""
    if not isinstance(content, TextContent) or content.text is msgspec.UNSET:
        return []
    if not trimmed(content.text):
        return [FieldError("content.text", "blank", "There is nothing to see in this text.")]
    if len(content.text.strip()) > MAX_TEXT:
        return [FieldError("content.text", "wrong_length", f"At most {MAX_TEXT} characters.")]
    return []


class NewMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A message to be sent. `client_id` is the device's own name for it; `reply_to` the id of one in this chat."""

    RULES: ClassVar[Rules] = {"content": _text_faults}

    client_id: ClientId
    content: NewContent
    reply_to: AnyMessageId | None = None


class PhotoEdit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="photo"):
    """The new caption of a photo; null for none."""

    caption: Caption | None


class VideoEdit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="video"):
    """The new caption of a video; null for none."""

    caption: Caption | None


class MessageEdit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The new text of a text, or caption of a photo or video; its type stays as it is."""

    RULES: ClassVar[Rules] = {"content": _text_faults}

    content: TextContent | PhotoEdit | VideoEdit


def _nothing_faults(delivered: Any, read: Any) -> list[FieldError]:
    if delivered is None and read is None:
        return [FieldError("read_up_to", "missing", "Say what was delivered, or read.")]
    return []


class Acknowledgement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Up to which message of the chat all were delivered, or read; what was read was delivered too."""

    RULES: ClassVar[Rules] = {("delivered_up_to", "read_up_to"): _nothing_faults}

    delivered_up_to: AnyMessageId | None = None
    read_up_to: AnyMessageId | None = None


class ChatQuery(PageQuery, frozen=True, forbid_unknown_fields=True):
    """Which page of chats: of those in the inbox, or of the requests."""

    box: Box = "inbox"


class DeletionQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"whom": "for"}):
    """For whom a message is to be deleted."""

    whom: Literal["me", "everyone"] = "me"


class ReplyTo(msgspec.Struct, frozen=True):
    """What a message replies to: `excerpt` is its beginning, or its type where it has no words; null once deleted."""

    id: str
    sender: UserCard
    excerpt: str | None


class MessageReaction(msgspec.Struct, frozen=True):
    """Who of the two reacted, and with what."""

    user: UserCard
    emoji: str


class Message(msgspec.Struct, frozen=True):
    """A message as one of the two sees it; `chat_with` is the other.

    `status` is how far it has come with who received it. One deleted for everyone stays as a tombstone: `deleted_at` is
    set, and content, reactions and what it replied to are gone.
    """

    id: str
    content: Content | None
    chat_with: UserCard
    sender: UserCard
    reply_to: ReplyTo | None
    reactions: list[MessageReaction]
    status: Status
    sent_at: int
    delivered_at: int | None
    read_at: int | None
    edited_at: int | None
    deleted_at: int | None


class Chat(msgspec.Struct, frozen=True, rename={"other": "with"}):
    """A chat in a list: the newest message that you have not deleted, and how many you have not read (to 1,000)."""

    other: UserCard
    last_message: Message | None
    unread_count: int
    updated_at: int


class ChatEvent(Event, frozen=True):
    """`user_id` did something in the chat with `other_id`."""

    user_id: int
    other_id: int


class MessageEvent(ChatEvent, frozen=True):
    """Something that `user_id` did with a message."""

    message_id: int


class MessageSent(MessageEvent, frozen=True):
    """A message was sent."""


class MessageEdited(MessageEvent, frozen=True):
    """Its sender edited a message."""


class MessageDeleted(MessageEvent, frozen=True):
    """Its sender deleted a message for both."""


class MessageHidden(MessageEvent, frozen=True):
    """One of the two deleted a message for themselves."""


class MessageReacted(MessageEvent, frozen=True):
    """One of the two reacted to a message, otherwise than before, or no more."""


class MessagesAcknowledged(ChatEvent, frozen=True):
    """Messages were delivered to `user_id`, or read by them."""


class ChatChanged(ChatEvent, frozen=True):
    """`user_id` cleared, accepted or declined the chat, which made it this `version` of theirs.

    0: what they sent in it was erased, and they have no devices any more.
    """

    version: int = 0


def excerpt_of(content: Mapping[str, Any]) -> str:
    """The beginning of a message, or its type where it has no words."""
    words = next((content[name] for name in ("text", "caption", "title", "name") if content.get(name)), "")
    words = words.strip()
    return words if 0 < len(words) <= EXCERPT else f"{words[:EXCERPT].rstrip()}…" if words else str(content["type"])


def id_in(text: str | None) -> int | None:
    """The message id in a body; that of no message where it can't be one."""
    if text is None:
        return None
    try:
        return ids.decode(text)
    except ValueError:
        return -1
