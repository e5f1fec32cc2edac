"""Telling both of a chat what happens in it, on all their devices.

What is told is what there is by now, under the version of its row: of two at once the older never comes last. A request
rings nothing with whom it is to: they hear nothing of it until they accept, and then of what comes.
"""

from typing import Final

import msgspec

from shared.chat import projection, reads, store
from shared.chat.model import (
    ChatChanged,
    ChatEvent,
    MessageDeleted,
    MessageEdited,
    MessageEvent,
    MessageHidden,
    MessageReacted,
    MessageSent,
)
from shared.chat.projection import Cards
from shared.kernel import clock, db, ids
from shared.live import publish
from shared.profiles import reads as profiles
from shared.visibility import reads as visibility
from shared.visibility.model import may_see

# So long the event of a message may come after one of what was done with it: then that one tells of it first.
_MAY_BE_NEWS_MS: Final = 3_600_000


def push_message(event: MessageEvent) -> None:
    """Tell of a message that was sent, or of what was done with it; a read from then on shows the same."""
    reads.refresh(event.user_id, event.other_id)
    cards = _cards(event)
    with db.connection() as conn:
        row = store.TELLING.maybe(conn, id=event.message_id)
    if not cards or row is None:
        return
    if isinstance(event, MessageHidden):
        _push_deletion([event.user_id], row.message, cards, "me")
        return
    for hearer in row.hearers:
        _push(event, row.message, hearer, cards)


def _push(event: MessageEvent, row: store.MessageRow, hearer: int, cards: Cards) -> None:
    mark = f"{ids.encode(row.id)}{ids.encode(hearer)}"
    other = row.recipient_id if hearer == row.sender_id else row.sender_id
    shown = projection.encoded(projection.entry_of(row), other, cards)
    if isinstance(event, MessageSent) or ids.made_at(row.id) > clock.now_ms() - _MAY_BE_NEWS_MS:
        publish.deliver([hearer], "message.created", shown, once=f"message:{mark}")
    match event:
        case MessageEdited() if row.deleted_at is None:
            publish.deliver([hearer], "message.edited", shown, once=f"message:changed:{mark}", version=row.version)
        case MessageDeleted():
            _push_deletion([hearer], row, cards, "everyone")
        case MessageReacted() if row.deleted_at is None:
            _push_reaction(event.user_id, row, hearer, cards)
        case _:
            pass


def _push_deletion(hearers: list[int], row: store.MessageRow, cards: Cards, whom: str) -> None:
    for hearer in hearers:
        other = row.recipient_id if hearer == row.sender_id else row.sender_id
        gone = b'{"id":"%b","chat_with":%b,"for":"%b","deleted_at":%b}' % (
            ids.encode(row.id).encode(),
            cards[other].json,
            whom.encode(),
            msgspec.json.encode(row.deleted_at),
        )
        mark = f"{ids.encode(row.id)}{ids.encode(hearer)}"
        kind = "hidden" if whom == "me" else "changed"
        version = 1 if whom == "me" else row.version
        publish.deliver([hearer], "message.deleted", gone, once=f"message:{kind}:{mark}", version=version)


def _push_reaction(reactor: int, row: store.MessageRow, hearer: int, cards: Cards) -> None:
    emoji = row.sender_emoji if reactor == row.sender_id else row.recipient_emoji
    told = b'{"message_id":"%b","user":%b,"emoji":%b}' % (
        ids.encode(row.id).encode(),
        cards[reactor].json,
        msgspec.json.encode(emoji),
    )
    once = f"message:reacted:{ids.encode(row.id)}{ids.encode(reactor)}{ids.encode(hearer)}"
    publish.deliver([hearer], "message.reacted", told, once=once, version=row.version)


def push_watermarks(event: ChatEvent) -> None:
    """Tell of what was delivered to a user or read by them: their own devices, and the other unless it is a request."""
    reads.refresh(event.user_id, event.other_id)
    cards = _cards(event)
    with db.connection() as conn:
        row = store.WATERMARKS.maybe(conn, user_id=event.user_id, other_id=event.other_id)
    if not cards or row is None:
        return
    pair = (event.user_id, event.other_id)
    for hearer, other in (pair, pair[::-1]) if row.box == "inbox" else (pair,):
        told = b'{"chat_with":%b,"user":%b,"delivered_up_to":%b,"read_up_to":%b}' % (
            cards[other].json,
            cards[event.user_id].json,
            _encoded_id(row.delivered_up_to),
            _encoded_id(row.read_up_to),
        )
        once = f"watermarks:{ids.encode(event.user_id)}{ids.encode(event.other_id)}{ids.encode(hearer)}"
        publish.deliver([hearer], "message.acknowledged", told, once=once, version=row.version)


def push_change(event: ChatChanged) -> None:
    """Have one's own devices read anew what one has cleared, accepted or declined; the other hears nothing of it."""
    reads.refresh(event.user_id, event.other_id, box=True)
    if event.version and all(user.active for user in profiles.states_of([event.user_id])):
        once = f"resync:chat:{ids.encode(event.user_id)}{ids.encode(event.other_id)}"
        publish.deliver([event.user_id], "resync", b"{}", once=once, version=event.version)


def _encoded_id(up_to: int) -> bytes:
    return b'"%b"' % ids.encode(up_to).encode() if up_to else b"null"


def _cards(event: ChatEvent) -> Cards:
    """The cards of the two; none where one is gone, or may not see the other: then nobody is told."""
    cards = profiles.load_cards_sync([event.user_id, event.other_id])
    relation = visibility.between(event.user_id, [event.other_id])[event.other_id]
    return cards if len(cards) > 1 and may_see(relation) else {}
