"""Chats in Redis: `chats:{user}`, `chat_requests:{user}` and `messages:{user}{other}` (shared/kernel/recent.py).

They are the newest chats in one's inbox, the newest requests, and the newest messages of a chat as one of its two has
it. They hold no cards: those are put in when it is read, and whether the one may see the other is asked then. Nor do
they hold URLs of what is attached: those are good for two hours or three, and are made when it is read.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from shared.chat.model import URLS, Box, Status, excerpt_of
from shared.chat.store import ChatRow, MessageRow
from shared.kernel import cache, ids, storage
from shared.kernel.recent import Recent
from shared.live import publish as live
from shared.profiles.reads import Card
from shared.visibility import accepted

# One's own and the other's.
Cards = Mapping[int, Card]


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A message but for the cards of the two, and the URLs of what is attached.

    `content` and `reply` are JSON up to what is put in: URLs of `objects`, by their fields, and the card of `replied`.
    """

    position: int
    sender: int
    content: bytes
    objects: dict[str, str]
    replied: int | None
    reply: bytes
    reactions: list[tuple[int, str]]
    tail: bytes


class ChatEntry(msgspec.Struct, frozen=True, array_like=True):
    """A chat in a list: with whom, how many are unread, and its newest message."""

    position: int
    id: int
    other: int
    unread: int
    last: Entry | None


class _Tail(msgspec.Struct, frozen=True):
    status: Status
    sent_at: int
    delivered_at: int | None
    read_at: int | None
    edited_at: int | None
    deleted_at: int | None


class _Reply(msgspec.Struct, frozen=True):
    id: str
    excerpt: str | None


BOXES: Final[dict[Box, Recent[ChatEntry]]] = {
    "inbox": Recent("chats", ChatEntry, keep=100),
    "requests": Recent("chat_requests", ChatEntry, keep=100),
}
MESSAGES: Final = Recent("messages", Entry, keep=100)


def entry_of(row: MessageRow) -> Entry:
    """The cached form of a message."""
    content = row.content
    words: bytes = b"null"
    if content is not None:
        words = msgspec.json.encode({name: value for name, value in content.items() if name not in URLS})[:-1]
    there = row.deleted_at is None
    quoted = row.reply_content
    reply = _Reply(ids.encode(row.reply_to_id or 0), None if quoted is None else excerpt_of(quoted))
    emoji = ((row.sender_id, row.sender_emoji), (row.recipient_id, row.recipient_emoji))
    status: Status = "read" if row.read_at is not None else "sent" if row.delivered_at is None else "delivered"
    tail = _Tail(status, ids.made_at(row.id), row.delivered_at, row.read_at, row.edited_at, row.deleted_at)
    return Entry(
        position=row.id,
        sender=row.sender_id,
        content=words,
        objects={URLS[name]: content[name] for name in URLS if name in content} if content else {},
        replied=row.reply_sender_id if there else None,
        reply=msgspec.json.encode(reply)[:-1],
        reactions=[(user_id, word) for user_id, word in emoji if word is not None],
        tail=msgspec.json.encode(tail)[1:],
    )


def chat_entry_of(row: ChatRow) -> ChatEntry:
    """The cached form of a chat."""
    last = None if row.last_message is None else entry_of(row.last_message)
    return ChatEntry(row.position, row.chat_id, row.other_id, row.unread_count, last)


def encoded(entry: Entry, other: int, cards: Cards) -> bytes:
    """A message as JSON, for whose chat is with `other`."""
    content = entry.content
    if content != b"null":
        urls = [b',"%b":"%b"' % (name.encode(), storage.private_url(of).encode()) for name, of in entry.objects.items()]
        content += b"".join(urls) + b"}"
    reply = b"null" if entry.replied is None else b'%b,"sender":%b}' % (entry.reply, cards[entry.replied].json)
    reactions = [
        b'{"user":%b,"emoji":%b}' % (cards[user_id].json, msgspec.json.encode(emoji))
        for user_id, emoji in entry.reactions
    ]
    return b'{"id":"%b","content":%b,"chat_with":%b,"sender":%b,"reply_to":%b,"reactions":[%b],%b' % (
        ids.encode(entry.position).encode(),
        content,
        cards[other].json,
        cards[entry.sender].json,
        reply,
        b",".join(reactions),
        entry.tail,
    )


def encoded_chat(entry: ChatEntry, cards: Cards) -> bytes:
    """A chat as JSON."""
    last = b"null" if entry.last is None else encoded(entry.last, entry.other, cards)
    return b'{"with":%b,"last_message":%b,"unread_count":%d,"updated_at":%d}' % (
        cards[entry.other].json,
        last,
        entry.unread,
        ids.made_at(entry.position),
    )


def changed(user_id: int, other_id: int) -> list[cache.Command]:
    """The commands to run after anything was changed in the chat of two."""
    commands = accepted.changed(user_id, other_id)
    for one, other in ((user_id, other_id), (other_id, user_id)):
        commands += [MESSAGES.changed((one, other)), *[recent.changed(one) for recent in BOXES.values()]]
    return commands


def outdated(message_id: int, change: int | None) -> list[cache.Command]:
    """The commands after which nobody is told any more what a message said before `change`: when it was, if it was."""
    return [] if change is None else [live.changed(message_id, change)]


def hidden(message_id: int, user_id: int) -> cache.Command:
    """The command after which a user is told no more of a message that they have deleted for themselves."""
    return live.changed(message_id, "hidden", user_id)


def cleared(user_id: int, other_id: int, version: int) -> cache.Command:
    """The command after which a user is told no more of what they had in a chat before this version of it."""
    return live.changed(other_id, f"chat:{version}", user_id)
