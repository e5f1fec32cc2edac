"""Chat."""

from shared.chat import actions, reads
from shared.chat.model import Acknowledgement, Chat, ChatQuery, DeletionQuery, Message, MessageEdit, NewMessage
from shared.engagement.model import NewReaction
from shared.kernel.endpoint import Caller, Encoded, MessageId, Username, endpoint
from shared.kernel.pages import Page, PageQuery


@endpoint("GET /v1/chats", action=True, answers=Page[Chat])
async def list_chats(caller: Caller, query: ChatQuery) -> Encoded:
    """Your chats, latest first; with `?box=requests`, those that somebody whom you don't follow has begun.

    A request is in no other list, counts nowhere as unread and comes with no live event. Who sent it is not told that
    you were delivered or have read it, until you accept it: by `accept_chat`, by writing to them, or by following them
    before they write again.
    """
    return await reads.chats(caller, query)


@endpoint("DELETE /v1/chats/{username}", action=True)
def clear_chat(caller: Caller, username: Username) -> None:
    """Delete all messages of a chat, for you alone. It is in your list again with its next message.

    Your devices hear `resync`, as they do when you accept or decline one.
    """
    actions.clear(caller, username)


@endpoint("PUT /v1/chats/{username}/accept", action=True, answers=Chat)
def accept_chat(caller: Caller, username: Username) -> Encoded:
    """Accept a request, also one that you declined: the chat moves to your inbox.

    What you have read of it is told to its sender now. 404 `chat_not_found` if nobody has written yet.
    """
    return actions.accept(caller, username)


@endpoint("PUT /v1/chats/{username}/decline", action=True, answers=Chat)
def decline_chat(caller: Caller, username: Username) -> Encoded:
    """Decline a request, or leave a chat: it is in none of your lists, and nor is what the other writes from then on.

    They are not told. Accepting it, writing to them, or following them takes that back. 404 as of `accept_chat`.
    """
    return actions.decline(caller, username)


@endpoint("POST /v1/chats/{username}/messages", status=201, action=True, answers=Message)
def send_message(caller: Caller, username: Username, body: NewMessage) -> Encoded:
    """Send a message. Sent again with the same `client_id`, it is the same message, whatever its content.

    A text has 1 to 4,000 characters without the spaces around it, a caption up to 2,200. What is attached was uploaded
    for `message`: as `actual`, a photo or video with its `placeholder`; voice and audio as audio, a file as anything
    but a video. 404 if there is no such user, or a block between you.
    """
    return actions.send(caller, username, body)


@endpoint("GET /v1/chats/{username}/messages", action=True, answers=Page[Message])
async def list_messages(caller: Caller, username: Username, query: PageQuery) -> Encoded:
    """The messages between you and somebody, newest first, in the one order that both of you see.

    What you have deleted for yourself is left out; what was deleted for everyone is among them as a tombstone. URLs of
    what is attached are good for at least an hour.
    """
    return await reads.messages(caller, username, query)


@endpoint("PUT /v1/chats/{username}/ack", action=True, answers=Chat)
def acknowledge_messages(caller: Caller, username: Username, body: Acknowledgement) -> Encoded:
    """Say up to which message all were delivered to you, or read. What was read is delivered too; it never goes back.

    Messages are named by their ids: 422 for one that is not in the chat.
    """
    return actions.acknowledge(caller, username, body)


@endpoint("PATCH /v1/messages/{message_id}", action=True, answers=Message)
def edit_message(caller: Caller, message_id: MessageId, body: MessageEdit) -> Encoded:
    """Edit the text of a message of yours, or the caption of a photo or video; `edited_at` shows it.

    403 for the other's; 422 if it is not of the type that you give; 409 `message_deleted` once it is deleted.
    """
    return actions.edit(caller, message_id, body)


@endpoint("DELETE /v1/messages/{message_id}", action=True)
def delete_message(caller: Caller, message_id: MessageId, query: DeletionQuery) -> None:
    """Delete a message `?for=me`, as by default, or one that you sent `?for=everyone`.

    For everyone its content and what is attached are gone, and a tombstone stays, which each may delete for themselves,
    and nobody for everyone: 409 `message_deleted`. You may delete also where the other is hidden from you by now.
    """
    actions.delete(caller, message_id, query)


@endpoint("PUT /v1/messages/{message_id}/reaction", action=True, answers=Message)
def react_to_message(caller: Caller, message_id: MessageId, body: NewReaction) -> Encoded:
    """React to a message with one emoji, instead of an earlier one of yours. 409 `message_deleted` for a tombstone.

    Its sender is told, also where it is a request.
    """
    return actions.react(caller, message_id, body)


@endpoint("DELETE /v1/messages/{message_id}/reaction", action=True, answers=Message)
def unreact_to_message(caller: Caller, message_id: MessageId) -> Encoded:
    """Take your reaction to a message back.

    Where the other is hidden from you by now, it is taken back, and 404 answered.
    """
    return actions.unreact(caller, message_id)
