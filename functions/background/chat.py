"""Chat: what is cached of it, and telling both of the two."""

from shared.chat import live
from shared.chat.model import (
    ChatChanged,
    MessageDeleted,
    MessageEdited,
    MessageHidden,
    MessageReacted,
    MessagesAcknowledged,
    MessageSent,
)
from shared.kernel.events import on


@on(MessageSent, MessageEdited, MessageDeleted, MessageHidden, MessageReacted)
def push_message(event: MessageSent | MessageEdited | MessageDeleted | MessageHidden | MessageReacted) -> None:
    """Drop what is cached of a chat, and tell both of a message: that it was sent, or what was done with it."""
    live.push_message(event)


@on(MessagesAcknowledged)
def push_acknowledgement(event: MessagesAcknowledged) -> None:
    """Drop what is cached of a chat, and tell what was delivered or read."""
    live.push_watermarks(event)


@on(ChatChanged)
def project_chat(event: ChatChanged) -> None:
    """Drop what is cached of a chat, end what only those see who have accepted each other's, and tell one's devices."""
    live.push_change(event)
