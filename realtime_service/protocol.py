"""The live protocol's types: what a client asks about its socket, and what each event's data are."""

from typing import Annotated, Any, Final, Literal

import msgspec

from functions import chat, comments, posts
from shared.chat.model import Message
from shared.comments.model import CommentCounts
from shared.kernel.endpoint import ENDPOINTS, Endpoint
from shared.notifications.model import Notification
from shared.posts.model import Post, PostCounts
from shared.presence.model import PresenceChanged, Typed
from shared.profiles.model import UserCard

# The features whose endpoints say that they are actions.
FEATURES: Final = (posts, comments, chat)
ACTIONS: Final[dict[str, Endpoint]] = {name: one for name, one in ENDPOINTS.items() if one.is_action}


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client asks. `id` comes back with the reply."""

    id: str | int
    action: str
    data: dict[str, Any] | None = None


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No fields."""


class Pong(msgspec.Struct, frozen=True):
    """The server's clock."""

    at: int


class Resume(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The greatest seq that the client has: of an event, or of the answer to its last `resume`."""

    after: Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]


class Resumed(msgspec.Struct, frozen=True):
    """Where the next `resume` goes on; `resync`: something may be missing, so read anew."""

    seq: int
    resync: bool


class Topics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names of topics: `post:<id>`, `comment:<id>`, `presence:<username>`."""

    topics: Annotated[list[Annotated[str, msgspec.Meta(max_length=60)]], msgspec.Meta(min_length=1, max_length=100)]


class Typing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """To whom one types, or does so no more."""

    to: Annotated[str, msgspec.Meta(max_length=60)]
    on: bool


class Subscribed(msgspec.Struct, frozen=True):
    """All topics that this socket is subscribed to now."""

    topics: list[str]


class Gone(msgspec.Struct, frozen=True):
    """The id of what is gone."""

    id: str


class PostMetrics(msgspec.Struct, frozen=True):
    """How a post is counted now; `reactions`: how often each emoji."""

    id: str
    counts: PostCounts
    reactions: dict[str, int]


class CommentMetrics(msgspec.Struct, frozen=True):
    """How a comment is counted now; `reactions`: how often each emoji."""

    id: str
    counts: CommentCounts
    reactions: dict[str, int]


class MessageGone(msgspec.Struct, frozen=True, rename={"whom": "for"}):
    """A message that was deleted, and for whom; `deleted_at` is null where it is gone from your devices alone."""

    id: str
    chat_with: UserCard
    whom: Literal["me", "everyone"]
    deleted_at: int | None


class MessageReacted(msgspec.Struct, frozen=True):
    """How a member of a chat reacts to a message now; null: no more."""

    message_id: str
    user: UserCard
    emoji: str | None


class Acknowledged(msgspec.Struct, frozen=True):
    """What of a chat was delivered to `user`, one of the two, and what they have read: ids of messages."""

    chat_with: UserCard
    user: UserCard
    delivered_up_to: str | None
    read_up_to: str | None


class SessionEnded(msgspec.Struct, frozen=True):
    """The session that this socket was opened with; it closes with 4401."""

    session_id: str


class Event(msgspec.Struct, frozen=True):
    """An event: what its data are, whether it is kept in the user's inbox under a `seq`, and when it comes."""

    data: Any
    personal: bool
    about: str


# What concerns the socket itself: its data, and those of its reply.
OWN: Final[dict[str, tuple[Any, Any, str]]] = {
    "ping": (Nothing, Pong, "Answered at once, after all that was delivered before."),
    "resume": (Resume, Resumed, "Sends what was missed since `after`, once and in order, and then this reply."),
    "subscribe": (Topics, Subscribed, "Subscribes to topics, all or none. Each time an event tells how each is now."),
    "unsubscribe": (Topics, Subscribed, "Ends subscriptions."),
    "typing": (Typing, Nothing, "Tells the other of a chat that you type, for six seconds, or that you don't."),
}
EVENTS: Final[dict[str, Event]] = {
    "feed.post_created": Event(
        Post,
        True,
        "A post or repost came into your feed, yours too; or one in it is there by another repost, or none, now.",
    ),
    "feed.post_deleted": Event(
        Gone,
        True,
        "A post is gone from your feed: nobody whom you follow shows it, by its 20 newest reposts or itself.",
    ),
    "notification.created": Event(
        Notification, True, "A notification is new, or has grown or shrunk; it has grown if `at` is later than before."
    ),
    "notification.revoked": Event(Gone, True, "A notification is gone."),
    "message.created": Event(Message, True, "A message came, or was sent from another of your devices."),
    "message.acknowledged": Event(Acknowledged, True, "Messages were delivered or read."),
    "message.edited": Event(Message, True, "A message was edited."),
    "message.deleted": Event(MessageGone, True, "A message was deleted."),
    "message.reacted": Event(MessageReacted, True, "Somebody reacted to a message, or takes it back."),
    "post.metrics": Event(PostMetrics, False, "To subscribers: a post is counted anew, at most twice a second."),
    "comment.metrics": Event(CommentMetrics, False, "To subscribers: a comment is counted anew."),
    "presence.changed": Event(PresenceChanged, False, "To subscribers: somebody came, went, or hides it."),
    "typing": Event(Typed, False, "Somebody types to you, or does so no more."),
    "session.ended": Event(SessionEnded, False, "You were signed out here."),
    "resync": Event(
        Nothing,
        False,
        "Something may have been missed, or was hidden or changed since it was told; or you blocked or muted, or no "
        "more, stopped following, or accepted, declined or cleared a chat; or somebody whose posts you follow was "
        "suspended or is back: read over HTTP, and subscribe anew. It has a `seq` only if it is kept.",
    ),
}
