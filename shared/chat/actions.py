"""Sending, acknowledging, editing and deleting messages; reacting to them; what one of the two does with their chat."""

from typing import Any, Final, TypeVar

import msgspec

from shared.chat import projection, reads, store
from shared.chat.model import (
    Acknowledgement,
    DeletionQuery,
    MessageEdit,
    NewAudio,
    NewContent,
    NewFile,
    NewMessage,
    NewPhoto,
    NewVideo,
    NewVoice,
    PhotoEdit,
    TextContent,
    VideoEdit,
    id_in,
)
from shared.comments.model import trimmed
from shared.engagement.model import NewReaction, emoji_of
from shared.kernel import cache, clock, db, events, ids, log
from shared.kernel.endpoint import Caller, Encoded, MessageId, Username
from shared.kernel.problems import Conflict, FieldError, Forbidden, Invalid, NotFound
from shared.media import actions as media
from shared.media.model import Kind
from shared.profiles import reads as profiles

_UNANSWERABLE: Final = FieldError("reply_to", "not_found", "There is no such message in this chat to reply to.")
# A video is no file: it may be larger.
_FILES: Final[tuple[Kind, ...]] = ("file", "photo", "audio")
C = TypeVar("C", bound=NewContent | PhotoEdit | VideoEdit)


def send(caller: Caller, username: Username, new: NewMessage) -> Encoded:
    """Send a message to `username`, or find it if the device has sent it before.

    Raises NotFound; Invalid for oneself, for what is not there to reply to, and for each object that can't be attached.
    """
    content = _trimmed(new.content)
    params = _common(caller) | {
        "username": username,
        "id": ids.new_id(),
        "client_id": new.client_id,
        "reply_to": id_in(new.reply_to),
        "content": msgspec.json.encode(content).decode(),
        "make": True,
    }
    wanted = _wanted(content)
    if wanted:
        row = _sent_with(caller, wanted, params)
    else:
        with db.connection() as conn:
            row = _sent(conn, params)
    if row.message is None:
        raise _unsent(caller, username, row)
    return _shown(caller, row.message, row.users)


def _trimmed(content: C) -> C | TextContent:
    return TextContent(trimmed(content.text)) if isinstance(content, TextContent) else content


def _sent(conn: db.Connection, params: dict[str, Any]) -> store.SentRow:
    row = store.SEND.one(conn, **params)
    if row.message is None and row.answerable and row.users:
        # Another request has sent the same while this one waited: it is there now.
        row = store.SEND.one(conn, **params)
    return row


def _sent_with(caller: Caller, wanted: list[media.Wanted], params: dict[str, Any]) -> store.SentRow:
    try:
        media.check(caller, wanted)
        with db.transaction() as conn:
            row = _sent(conn, params)
            if row.made and row.message is not None:
                media.attach(conn, caller, _owner(row.message.id), wanted)
        return row
    except Invalid as invalid:
        # Sent before, these objects are attached: to this very message.
        with db.connection() as conn:
            row = store.SEND.one(conn, **params | {"make": False})
        if row.message is None:
            raise Invalid([*(invalid.errors or []), *([] if row.answerable else [_UNANSWERABLE])]) from None
        return row


def _unsent(caller: Caller, username: str, row: store.SentRow) -> Exception:
    if row.users:
        return Invalid([_UNANSWERABLE])
    if caller.user_id not in profiles.load_cards_sync([caller.user_id]):
        return Forbidden("account_gone")
    _check_reached(caller, username)
    return NotFound("user_not_found")  # gone while this was under way


def acknowledge(caller: Caller, username: Username, new: Acknowledgement) -> Encoded:
    """Move the caller's watermarks on, never back. Raises NotFound; Invalid for what is no message of the chat."""
    delivered, read = id_in(new.delivered_up_to), id_in(new.read_up_to)
    with db.connection() as conn:
        row = store.ACKNOWLEDGE.maybe(conn, username=username, delivered=delivered, read=read, **_common(caller))
        if row is None:
            _check_reached(caller, username)
        found = [
            FieldError(field, "not_found", "There is no such message in this chat.")
            for field, named, is_there in (
                ("delivered_up_to", delivered, row is not None and row.delivered_is_there),
                ("read_up_to", read, row is not None and row.read_is_there),
            )
            if named is not None and not is_there
        ]
        if row is None or found:
            raise Invalid(found)
        return _chat(conn, caller, row.other_id)


def accept(caller: Caller, username: Username) -> Encoded:
    """Take a chat into the caller's inbox. Raises NotFound."""
    return _change(caller, username, store.ACCEPT)


def decline(caller: Caller, username: Username) -> Encoded:
    """Take a chat out of the caller's lists. Raises NotFound."""
    return _change(caller, username, store.DECLINE)


def _change(caller: Caller, username: str, statement: db.Statement[store.OtherRow]) -> Encoded:
    with db.connection() as conn:
        row = statement.maybe(conn, username=username, **_common(caller))
        if row is None:
            _check_reached(caller, username)
            raise NotFound("chat_not_found")
        return _chat(conn, caller, row.other_id, projection.cleared(caller.user_id, row.other_id, row.version))


def clear(caller: Caller, username: Username) -> None:
    """Delete all messages of a chat for the caller. Raises NotFound."""
    with db.connection() as conn:
        row = store.CLEAR.maybe(conn, username=username, **_common(caller))
        if row is None:
            _check_reached(caller, username)
            return  # there is no chat to clear
    cleared = projection.cleared(caller.user_id, row.other_id, row.version)
    events.after_commit(*projection.changed(caller.user_id, row.other_id), cleared)


def _chat(conn: db.Connection, caller: Caller, other_id: int, *commands: cache.Command) -> Encoded:
    """A chat as the caller has it now, after a change of it."""
    row = store.CHAT.one(conn, user_id=caller.user_id, other_id=other_id)
    events.after_commit(*projection.changed(caller.user_id, other_id), *commands)
    return Encoded(projection.encoded_chat(projection.chat_entry_of(row), _cards(caller, row.users)))


def react(caller: Caller, message_id: MessageId, new: NewReaction) -> Encoded:
    """React to a message, instead of an earlier reaction. Raises NotFound, Conflict for a tombstone."""
    return _reacted(caller, store.REACT, message_id, emoji_of(new.emoji))


def unreact(caller: Caller, message_id: MessageId) -> Encoded:
    """Take a reaction back. Raises as `react` does, NotFound also where it is taken back: the message is hidden."""
    return _reacted(caller, store.UNREACT, message_id, None)


def _reacted(caller: Caller, statement: db.Statement[store.ChangedRow], message_id: int, emoji: str | None) -> Encoded:
    row = _changed(caller, statement, message_id, emoji=emoji)
    if not row.visible:
        events.after_commit(*projection.changed(row.message.sender_id, row.message.recipient_id))
        raise NotFound("message_not_found")  # what was undone stays so
    return _shown(caller, row.message, row.users)


def edit(caller: Caller, message_id: MessageId, change: MessageEdit) -> Encoded:
    """Edit a message of the caller's own.

    Raises NotFound, Forbidden("not_sender"), Conflict for a tombstone, Invalid for one of another type.
    """
    content = msgspec.to_builtins(_trimmed(change.content))
    change_of = msgspec.json.encode(content).decode()
    row = _changed(caller, store.EDIT, message_id, type=content["type"], change=change_of)
    if row.message.sender_id != caller.user_id:
        raise Forbidden("not_sender", "Only who sent a message can edit it.")
    if not row.changed:
        raise Invalid.field("content.type", "wrong_type", "A message stays of its type.")
    return _shown(caller, row.message, row.users)


def _changed(
    caller: Caller, statement: db.Statement[store.ChangedRow], message_id: int, **params: Any
) -> store.ChangedRow:
    params |= {"id": message_id, **_common(caller)}
    with db.connection() as conn:
        row = statement.maybe(conn, **params)
        if row is not None and not row.changed:
            # It was so already, or another request made it so while this one waited: what there is now, is asked anew.
            row = statement.maybe(conn, **params)
        if row is None:
            _check_seen(conn, caller, message_id)
            raise NotFound("message_not_found")
    return row


def delete(caller: Caller, message_id: MessageId, query: DeletionQuery) -> None:
    """Delete a message for the caller, or one of their own for both, also where the other is hidden by now.

    Raises NotFound, Forbidden("not_sender"), Conflict for a tombstone that is to be deleted for both.
    """
    which = {"id": message_id, **_common(caller)}
    with db.transaction() as conn:
        row = (store.HIDE if query.whom == "me" else store.DELETE).maybe(conn, **which)
        if row is None:
            _check_seen(conn, caller, message_id)
            raise Forbidden("not_sender", "Only who sent a message can delete it for everyone.")
        if row.attached:
            media.release(conn, _owner(message_id))
    outdated = projection.outdated(message_id, row.deleted_at)
    if query.whom == "me":
        outdated = [projection.hidden(message_id, caller.user_id)]
    events.after_commit(*projection.changed(row.sender_id, row.recipient_id), *outdated)


def _check_seen(conn: db.Connection, caller: Caller, message_id: int) -> None:
    """Raises NotFound unless the caller may see the message, Conflict if it is a tombstone."""
    seen = store.SEEN.maybe(conn, id=message_id, user_id=caller.user_id)
    if seen is None or not seen.visible:
        raise NotFound("message_not_found")
    if seen.deleted:
        raise Conflict("message_deleted", "This message was deleted: all that can be done with it is to hide it.")


def _common(caller: Caller) -> dict[str, Any]:
    return {"user_id": caller.user_id, "now": clock.now_ms(), "trace": log.trace_id.get() or None}


def _check_reached(caller: Caller, username: str) -> None:
    """Raises NotFound unless the caller may see `username`, Invalid for the caller's own name."""
    found = profiles.reachable(caller.user_id, [username]).get(username)
    if found is None:
        raise NotFound("user_not_found")
    if found == caller.user_id:
        raise reads.yourself()


def _wanted(content: NewContent) -> list[media.Wanted]:
    """What a message names, and what that has to be."""
    match content:
        case NewPhoto() | NewVideo():
            kind: Kind = "photo" if isinstance(content, NewPhoto) else "video"
            return [
                media.Wanted("content.actual", content.actual, "message", "actual", (kind,)),
                media.Wanted("content.placeholder", content.placeholder, "message", "placeholder", ("photo",)),
            ]
        case NewVoice() | NewAudio():
            return [media.Wanted("content.object", content.object, "message", "actual", ("audio",))]
        case NewFile():
            return [media.Wanted("content.object", content.object, "message", "actual", _FILES)]
        case TextContent():
            return []


def _shown(caller: Caller, row: store.MessageRow, users: list[profiles.UserRow]) -> Encoded:
    """A message as the caller sees it, after a change of it."""
    other = row.recipient_id if row.sender_id == caller.user_id else row.sender_id
    events.after_commit(*projection.changed(caller.user_id, other), *projection.outdated(row.id, row.edited_at))
    return Encoded(projection.encoded(projection.entry_of(row), other, _cards(caller, users)))


def _cards(caller: Caller, users: list[profiles.UserRow]) -> dict[int, profiles.Card]:
    cards = {user.id: card for user in users if (card := profiles.card_of(user)) is not None}
    if caller.user_id not in cards:
        raise Forbidden("account_gone")
    if len(cards) < len(users):
        raise NotFound("user_not_found")  # gone while this was under way
    return cards


def _owner(message_id: int) -> str:
    return f"message:{ids.encode(message_id)}"
