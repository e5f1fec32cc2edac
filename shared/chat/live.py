"""Telling both of a chat what happens in it, on all their devices.

What is told is what there is by now, under the version of its row: of two at once the older never comes last. A request
rings nothing with whom it is to: they hear nothing of it until they accept, and then of what comes.

Messages are told in the order of their ids. Each has a mark for each of the two, set in the script that tells it, and
only once that of the message before is there: whichever event comes first brings those before it along. The mark
is set for whom a message is not told as well, so that nobody is told of it later, and the next need not wait.
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
from shared.kernel import cache, clock, db, ids, storage
from shared.live import publish
from shared.profiles import reads as profiles
from shared.visibility import reads as visibility
from shared.visibility.model import may_see

# So long the event of a message may come after one of what was done with it: then that one tells of it first.
_MAY_BE_NEWS_MS: Final = 3_600_000
# So many messages at most are told along: more than are handled at once.
_BEFORE: Final = 100


def push_message(event: MessageEvent) -> None:
    """Tell of a message that was sent, or of what was done with it; a read from then on shows the same."""
    reads.refresh(event.user_id, event.other_id)
    cards = _cards(event)
    since = ids.first_of(clock.now_ms() - _MAY_BE_NEWS_MS)
    rows = _telling(event.message_id, since, 1)
    if not rows:
        return
    row = rows[0].message
    if isinstance(event, (MessageEdited, MessageDeleted)):
        cache.run_sync(*projection.outdated(row.id, row.deleted_at or row.edited_at))
    if isinstance(event, MessageHidden):
        cache.run_sync(projection.hidden(row.id, event.user_id))
        if cards:
            _push_deletion([event.user_id], row, cards, "me")
        return
    if isinstance(event, MessageSent) or row.id >= since:
        for hearer in (row.sender_id, row.recipient_id):
            _push_in_order(rows, since, hearer, cards)
    for hearer in rows[0].hearers if cards else ():
        _push_change(event, row, hearer, cards)


def _telling(message_id: int, since: int, before: int) -> list[store.TellingRow]:
    with db.connection() as conn:
        return store.TELLING.all(conn, id=message_id, since=since, limit=1 + before)


def _push_in_order(rows: list[store.TellingRow], since: int, hearer: int, cards: Cards) -> None:
    """Tell of the first of `rows`, after those before it that were not told; what they are is looked up then."""
    if _push_creation(rows, hearer, cards):
        return
    # A mark that was lost with Redis is no reason to tell again: whoever heard that then reads anew.
    since = max(since, ids.first_of(publish.whole_since()))
    rows = _telling(rows[0].message.id, since, _BEFORE)
    first = next((index for index in range(len(rows)) if _push_creation(rows[index:], hearer, cards)), 0)
    for row in reversed(rows[:first]):
        _push_creation([row], hearer, cards)


def _push_creation(rows: list[store.TellingRow], hearer: int, cards: Cards) -> bool:
    """Tell of the first of `rows`, if the second was told or there is none; whether it was so."""
    mark, *before = [f"message:{_mark(row.message, hearer)}" for row in rows[:2]]
    shown = _shown(rows[0].message, hearer, cards) if cards and hearer in rows[0].hearers else None
    return _deliver(rows[0].message, hearer, "message.created", shown, mark, 1, "".join(before))


def _deliver(
    row: store.MessageRow, hearer: int, event: str, data: bytes | None, once: str, version: int, after: str = ""
) -> bool:
    rests: dict[int, int | None] = {_other(row, hearer): None, row.id: row.edited_at}
    if row.reply_to_id is not None:
        rests[row.reply_to_id] = None
    has_urls = not projection.URLS.keys().isdisjoint(row.content or ())
    good_for = storage.RETOLD_SECONDS if has_urls else publish.KEPT_SECONDS
    return publish.deliver(
        [hearer], event, data, once=once, version=version, after=after, rests=rests, good_for=good_for
    )


def _other(row: store.MessageRow, hearer: int) -> int:
    return row.recipient_id if hearer == row.sender_id else row.sender_id


def _shown(row: store.MessageRow, hearer: int, cards: Cards) -> bytes:
    return projection.encoded(projection.entry_of(row), _other(row, hearer), cards)


def _mark(row: store.MessageRow, hearer: int) -> str:
    return f"{ids.encode(row.id)}{ids.encode(hearer)}"


def _push_change(event: MessageEvent, row: store.MessageRow, hearer: int, cards: Cards) -> None:
    match event:
        case MessageEdited() if row.deleted_at is None:
            once = f"message:changed:{_mark(row, hearer)}"
            _deliver(row, hearer, "message.edited", _shown(row, hearer, cards), once, row.version)
        case MessageDeleted():
            _push_deletion([hearer], row, cards, "everyone")
        case MessageReacted() if row.deleted_at is None:
            _push_reaction(event.user_id, row, hearer, cards)
        case _:
            pass


def _push_deletion(hearers: list[int], row: store.MessageRow, cards: Cards, whom: str) -> None:
    for hearer in hearers:
        gone = b'{"id":"%b","chat_with":%b,"for":"%b","deleted_at":%b}' % (
            ids.encode(row.id).encode(),
            cards[_other(row, hearer)].json,
            whom.encode(),
            msgspec.json.encode(row.deleted_at),
        )
        once = f"message:{'hidden' if whom == 'me' else 'changed'}:{_mark(row, hearer)}"
        version = 1 if whom == "me" else row.version
        publish.deliver(
            [hearer], "message.deleted", gone, once=once, version=version, rests={_other(row, hearer): None}
        )


def _push_reaction(reactor: int, row: store.MessageRow, hearer: int, cards: Cards) -> None:
    emoji = row.sender_emoji if reactor == row.sender_id else row.recipient_emoji
    told = b'{"message_id":"%b","user":%b,"emoji":%b}' % (
        ids.encode(row.id).encode(),
        cards[reactor].json,
        msgspec.json.encode(emoji),
    )
    once = f"message:reacted:{ids.encode(row.id)}{ids.encode(reactor)}{ids.encode(hearer)}"
    rests = {_other(row, hearer): None}
    publish.deliver([hearer], "message.reacted", told, once=once, version=row.version, rests=rests)


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
        publish.deliver([hearer], "message.acknowledged", told, once=once, version=row.version, rests={other: None})


def push_change(event: ChatChanged) -> None:
    """Have one's own devices read anew what one has cleared, accepted or declined; the other hears nothing of it."""
    reads.refresh(event.user_id, event.other_id, box=True)
    cache.run_sync(projection.cleared(event.user_id, event.other_id, event.version))
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
