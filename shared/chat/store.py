"""The SQL of chat."""

from typing import Any, Final

import msgspec

from shared.chat.model import (
    ChatChanged,
    ChatEvent,
    MessageDeleted,
    MessageEdited,
    MessageEvent,
    MessageHidden,
    MessageReacted,
    MessagesAcknowledged,
    MessageSent,
)
from shared.kernel import db
from shared.kernel.moving import wanted_sql
from shared.profiles.reads import UserRow
from shared.visibility.model import MAY_SEE_SQL, SEES_SQL


class MessageRow(msgspec.Struct, frozen=True):
    """A message, deleted ones too, with the sender and content of what it replies to."""

    id: int
    sender_id: int
    recipient_id: int
    content: dict[str, Any] | None
    reply_to_id: int | None
    reply_sender_id: int | None
    reply_content: dict[str, Any] | None
    sender_emoji: str | None
    recipient_emoji: str | None
    delivered_at: int | None
    read_at: int | None
    edited_at: int | None
    deleted_at: int | None
    version: int


class SentRow(msgspec.Struct, frozen=True):
    """What came of sending: the two, where both are there and the one may write to the other, and the message.

    `made`: just now, and not found. `answerable`: what it replies to is in the chat, or it replies to nothing. No
    message where all is well: another request sent the same meanwhile.
    """

    users: list[UserRow]
    message: MessageRow | None
    made: bool
    answerable: bool


class ChangedRow(msgspec.Struct, frozen=True):
    """A message after a change of it, and the two.

    `changed`: whether there was anything to change; `visible`: whether its reader may see it.
    """

    message: MessageRow
    users: list[UserRow]
    changed: bool
    visible: bool


class DeletedRow(msgspec.Struct, frozen=True):
    """Which two a deleted message is of, whether anything is attached to it, and when it was deleted for both."""

    sender_id: int
    recipient_id: int
    attached: bool
    deleted_at: int | None


class SeenRow(msgspec.Struct, frozen=True):
    """A message in a chat of its reader's: whether it was deleted, and whether they may see it."""

    sender_id: int
    deleted: bool
    visible: bool


class MovedRow(msgspec.Struct, frozen=True):
    """With whom a chat is, and which of the messages that an acknowledgement names are in it."""

    other_id: int
    delivered_is_there: bool
    read_is_there: bool


class OtherRow(msgspec.Struct, frozen=True):
    """With whom a chat is, and the version of what one has of it."""

    other_id: int
    version: int


class ChatRow(msgspec.Struct, frozen=True):
    """A chat as one of its two has it."""

    position: int
    chat_id: int
    other_id: int
    unread_count: int
    last_message: MessageRow | None


class WholeChatRow(ChatRow, frozen=True):
    """The same, and the two."""

    users: list[UserRow]


class TellingRow(msgspec.Struct, frozen=True):
    """A message, and those of the two who are told of it: not whose request it is, nor who has deleted it."""

    message: MessageRow
    hearers: list[int]


class WatermarksRow(msgspec.Struct, frozen=True):
    """Up to where messages were delivered and read."""

    delivered_up_to: int
    read_up_to: int
    box: str
    version: int


class CountRow(msgspec.Struct, frozen=True):
    """A count."""

    count: int


_USER_COLUMNS: Final = ", ".join(f"u.{field.name}" for field in msgspec.structs.fields(UserRow))
_SOURCES: Final = {"reply_sender_id": "r.sender_id AS reply_sender_id", "reply_content": "r.content AS reply_content"}
# Of a message s, and r that it replies to.
_COLUMNS: Final = ", ".join(_SOURCES.get(field.name, f"s.{field.name}") for field in msgspec.structs.fields(MessageRow))
_RETURNED: Final = ", ".join(
    f"s.{field.name}" for field in msgspec.structs.fields(MessageRow) if field.name not in _SOURCES
)
_WITH_REPLY: Final = "LEFT JOIN messages r ON r.id = s.reply_to_id"


def _hidden_by(user_id: str) -> str:
    return f"CASE WHEN s.sender_id = {user_id} THEN s.hidden_by_sender ELSE s.hidden_by_recipient END"


def _told(event: type[ChatEvent], source: str, other_id: str) -> str:
    """The part of a statement that puts an event of `:user_id` in the outbox, of each row of `source`."""
    more = ", 'message_id', id" if issubclass(event, MessageEvent) else ""
    more += ", 'version', version" if event is ChatChanged else ""
    return f"""told_{event.topic} AS (
  INSERT INTO outbox (topic, payload, trace, created_at)
  SELECT '{event.topic}',
         convert_to(CAST(json_build_object('user_id', CAST(:user_id AS bigint), 'other_id', {other_id}{more}) AS text),
                    'UTF8'),
         :trace, :now
    FROM {source}
)"""


def _message(source: str) -> str:
    """A message of a part of the statement, as JSON."""
    return f"(SELECT to_json(shown) FROM (SELECT {_COLUMNS} FROM {source} s {_WITH_REPLY}) shown)"


def _users(other_id: str) -> str:
    return f"""(SELECT coalesce(json_agg(people), '[]')
          FROM (SELECT {_USER_COLUMNS} FROM users u WHERE u.id = :user_id OR u.id = {other_id}) people)"""


def _noted(source: str) -> str:
    """The part of a statement that tells the sender of what was delivered or read, but for requests."""
    return f"""noted AS (
  UPDATE messages s SET delivered_at = coalesce(s.delivered_at, :now),
         read_at = CASE WHEN s.id <= {source}.read_up_to THEN coalesce(s.read_at, :now) END
    FROM {source}
   WHERE {source}.box = 'inbox' AND s.recipient_id = :user_id AND s.chat_id = {source}.chat_id AND s.read_at IS NULL
     AND s.id <= {source}.delivered_up_to AND (s.delivered_at IS NULL OR s.id <= {source}.read_up_to)
)"""


# Whom `:user_id` names, if they may write to each other.
_TARGET: Final = f"""target AS MATERIALIZED (
  SELECT u.id, json_build_array({db.json_of("me", UserRow)}, {db.json_of("u", UserRow)}) AS users
    FROM users u JOIN users me ON me.id = :user_id AND me.state = 'active'
   WHERE u.username = :username AND u.id <> :user_id AND u.state = 'active' AND {MAY_SEE_SQL.format(other="u.id")}
)"""
# One statement, one round trip: the chat, the message, how it stands with both, the event, and all that the answer
# shows. The chat's row is locked first; the message's id is made then, so that ids and commits have one order. What has
# been sent before is found by `known`; what another request sends at this moment, by the unique index: then nothing is
# made, and who asks again finds it. `:make` false makes none at all. Who writes to somebody has accepted them; who is
# written to has if they follow. What the one had read before they accepted is told then.
SEND = db.Statement(
    f"""WITH {_TARGET}, pair AS MATERIALIZED (
  SELECT target.id AS other_id, c.id AS chat_id
    FROM target
    LEFT JOIN chats c ON c.lower_id = least(target.id, :user_id) AND c.higher_id = greatest(target.id, :user_id)
), known AS MATERIALIZED (
  SELECT {_RETURNED} FROM pair JOIN messages s ON s.chat_id = pair.chat_id
   WHERE s.sender_id = :user_id AND s.client_id = :client_id
), answered AS MATERIALIZED (
  SELECT s.id FROM pair JOIN messages s ON s.id = :reply_to AND s.chat_id = pair.chat_id
    JOIN chat_members m ON m.user_id = :user_id AND m.other_id = pair.other_id
   WHERE s.deleted_at IS NULL AND s.id > m.cleared_up_to AND NOT {_hidden_by(":user_id")}
), chat AS (
  INSERT INTO chats AS c (id, lower_id, higher_id, last_message_id)
  SELECT :id, least(target.id, :user_id), greatest(target.id, :user_id), :id FROM target
   WHERE CAST(:make AS boolean) AND NOT EXISTS (SELECT FROM known)
     AND (CAST(:reply_to AS bigint) IS NULL OR EXISTS (SELECT FROM answered))
  ON CONFLICT (lower_id, higher_id)
  DO UPDATE SET last_message_id = greatest(excluded.last_message_id, c.last_message_id + 1)
  RETURNING c.id, c.last_message_id
), made AS (
  INSERT INTO messages AS s (id, chat_id, sender_id, recipient_id, client_id, content, reply_to_id)
  SELECT chat.last_message_id, chat.id, :user_id, target.id, :client_id, CAST(:content AS jsonb),
         (SELECT id FROM answered)
    FROM chat, target
  ON CONFLICT (chat_id, sender_id, client_id) DO NOTHING
  RETURNING s.chat_id, {_RETURNED}
), members AS (
  INSERT INTO chat_members AS m (user_id, other_id, chat_id, box, position)
  SELECT one.user_id, one.other_id, made.chat_id, one.box, made.id
    FROM made CROSS JOIN LATERAL (
      VALUES (made.sender_id, made.recipient_id, 'inbox'),
             (made.recipient_id, made.sender_id,
              CASE WHEN EXISTS (SELECT FROM relationships f WHERE f.user_id = made.recipient_id
                                   AND f.other_id = made.sender_id AND f.follow_id IS NOT NULL)
                   THEN 'inbox' ELSE 'requests' END)) one (user_id, other_id, box)
  ON CONFLICT (user_id, other_id)
  DO UPDATE SET position = excluded.position, version = m.version + 1,
                box = CASE WHEN excluded.box = 'inbox' THEN 'inbox' ELSE m.box END
  RETURNING m.*, old.box AS box_before
), accepted AS (
  SELECT * FROM members WHERE user_id = :user_id AND box_before <> 'inbox'
), {_noted("accepted")}, {_told(MessagesAcknowledged, "accepted WHERE delivered_up_to > 0", "other_id")},
{_told(MessageSent, "made", "recipient_id")}, sent AS (
  SELECT * FROM known UNION ALL SELECT {_RETURNED} FROM made s
)
SELECT coalesce((SELECT users FROM target), '[]'), {_message("sent")}, EXISTS (SELECT FROM made),
       CAST(:reply_to AS bigint) IS NULL OR EXISTS (SELECT FROM answered)""",
    SentRow,
)
# What one of the two may see of a chat: an index range, walked from its newest end.
_IN_CHAT: Final = f"""s.id > m.cleared_up_to AND NOT {_hidden_by("m.user_id")}"""
OF_CHAT = db.Statement(
    f"""SELECT shown.* FROM chat_members m CROSS JOIN LATERAL (
          SELECT {_COLUMNS} FROM messages s {_WITH_REPLY}
           WHERE s.chat_id = m.chat_id AND s.id < :before AND {_IN_CHAT} ORDER BY s.id DESC LIMIT :limit) shown
        WHERE m.user_id = :user_id AND m.other_id = :other_id ORDER BY shown.id DESC""",
    MessageRow,
)
# An index range of the newest thousand a chat: more unread ones than that are a thousand.
_UNREAD: Final = """(SELECT CAST(count(*) AS integer) FROM (
    SELECT s.recipient_id, s.deleted_at, s.hidden_by_recipient FROM messages s
     WHERE s.chat_id = m.chat_id AND s.id > greatest(m.read_up_to, m.cleared_up_to) ORDER BY s.id DESC LIMIT 1000) n
   WHERE n.recipient_id = m.user_id AND n.deleted_at IS NULL AND NOT n.hidden_by_recipient)"""
_CHAT: Final = f"""coalesce(m.position, m.cleared_up_to), m.chat_id, m.other_id, {_UNREAD},
       (SELECT to_json(shown) FROM (
          SELECT {_COLUMNS} FROM messages s {_WITH_REPLY} WHERE s.chat_id = m.chat_id AND {_IN_CHAT}
           ORDER BY s.id DESC LIMIT 1) shown)"""
IN_BOX = db.Statement(
    f"""SELECT {_CHAT} FROM chat_members m
        WHERE m.user_id = :user_id AND m.box = :box AND {wanted_sql("m.position", "m.chat_id")}
        ORDER BY m.position DESC LIMIT :limit""",
    ChatRow,
)
CHAT = db.Statement(
    f"""SELECT {_CHAT}, {_users("m.other_id")} FROM chat_members m
        WHERE m.user_id = :user_id AND m.other_id = :other_id""",
    WholeChatRow,
)
UNREAD_CHATS = db.Statement(
    f"""SELECT count(*) FROM (
          SELECT FROM chat_members m
           WHERE m.user_id = :user_id AND m.box = 'inbox' AND m.position > m.read_up_to
             AND {SEES_SQL.format(other="m.other_id")} AND {_UNREAD} > 0
           LIMIT 1000) unread""",
    CountRow,
)
# How the chat with whom `:user_id` names stands with them, locked: a message's row comes after it.
_MINE: Final = f"""{_TARGET}, mine AS MATERIALIZED (
  SELECT m.* FROM target JOIN chat_members m ON m.user_id = :user_id AND m.other_id = target.id FOR NO KEY UPDATE OF m
)"""


# Watermarks that a message of the chat was named for; greater ones stay.
ACKNOWLEDGE = db.Statement(
    f"""WITH {_MINE}, named AS MATERIALIZED (
  SELECT coalesce((SELECT s.id FROM messages s WHERE s.id = :delivered AND s.chat_id = mine.chat_id), 0) AS delivered,
         coalesce((SELECT s.id FROM messages s WHERE s.id = :read AND s.chat_id = mine.chat_id), 0) AS read
    FROM mine
), moved AS (
  UPDATE chat_members m SET read_up_to = greatest(m.read_up_to, named.read),
         delivered_up_to = greatest(m.delivered_up_to, named.delivered, named.read), version = m.version + 1
    FROM mine, named
   WHERE m.user_id = mine.user_id AND m.other_id = mine.other_id
     AND (CAST(:delivered AS bigint) IS NULL OR named.delivered > 0)
     AND (CAST(:read AS bigint) IS NULL OR named.read > 0)
     AND (m.read_up_to < named.read OR m.delivered_up_to < greatest(named.delivered, named.read))
  RETURNING m.*
), {_noted("moved")}, {_told(MessagesAcknowledged, "moved", "other_id")}
SELECT mine.other_id, CAST(:delivered AS bigint) IS NULL OR named.delivered > 0,
       CAST(:read AS bigint) IS NULL OR named.read > 0
  FROM mine, named""",
    MovedRow,
)


def _changing(change: str, changes: str, more: str = "") -> db.Statement[OtherRow]:
    return db.Statement(
        f"""WITH {_MINE}, changed AS (
  UPDATE chat_members m SET {change}, version = m.version + 1 FROM mine
   WHERE m.user_id = mine.user_id AND m.other_id = mine.other_id AND {changes}
  RETURNING m.*
), {more}{_told(ChatChanged, "changed", "other_id")}
SELECT other_id, coalesce((SELECT version FROM changed), mine.version) FROM mine""",
        OtherRow,
    )


CLEAR = _changing("cleared_up_to = greatest(m.cleared_up_to, m.position), position = NULL", "m.position IS NOT NULL")
# What was read of it before is told from now on.
ACCEPT = _changing(
    "box = 'inbox'",
    "m.box <> 'inbox'",
    f"{_noted('changed')}, {_told(MessagesAcknowledged, 'changed WHERE delivered_up_to > 0', 'other_id')}, ",
)
DECLINE = _changing("box = 'declined'", "m.box <> 'declined'")

# A message in a chat of `:user_id`'s, and whether they may see the other: who may not still takes back what they did.
_OTHER: Final = "CASE WHEN s.sender_id = :user_id THEN s.recipient_id ELSE s.sender_id END"
_REACHED: Final = f"""messages s JOIN chat_members m ON m.user_id = :user_id AND m.other_id = {_OTHER}
   WHERE s.id = :id AND :user_id IN (s.sender_id, s.recipient_id) AND {_IN_CHAT}"""
_SEES: Final = SEES_SQL.format(other="m.other_id")
SEEN = db.Statement(f"SELECT s.sender_id, s.deleted_at IS NOT NULL, {_SEES} FROM {_REACHED}", SeenRow)


def _change(event: type[MessageEvent], change: str, changes: str, may: str = _SEES) -> db.Statement[ChangedRow]:
    """A change of a message: what it is by then decides, in the row that it changes."""
    return db.Statement(
        f"""WITH reached AS MATERIALIZED (
  SELECT s.id, m.other_id, {_SEES} AS visible FROM {_REACHED} AND s.deleted_at IS NULL AND {may}
), changed AS (
  UPDATE messages s SET {change}, version = s.version + 1 FROM reached
   WHERE s.id = reached.id AND s.deleted_at IS NULL AND {changes}
  RETURNING reached.other_id, {_RETURNED}
), {_told(event, "changed", "other_id")}, latest AS (
  SELECT {_RETURNED} FROM changed s
  UNION ALL SELECT {_RETURNED} FROM messages s JOIN reached USING (id) WHERE NOT EXISTS (SELECT FROM changed)
)
SELECT {_message("latest")}, {_users("(SELECT other_id FROM reached)")}, EXISTS (SELECT FROM changed),
       reached.visible
  FROM reached""",
        ChangedRow,
    )


# The instant grows with each edit.
EDIT = _change(
    MessageEdited,
    "content = s.content || CAST(:change AS jsonb), edited_at = greatest(:now, coalesce(s.edited_at, 0) + 1)",
    "s.sender_id = :user_id AND s.content ->> 'type' = :type",
)
_REACTION: Final = (
    """sender_emoji = CASE WHEN s.sender_id = :user_id THEN CAST(:emoji AS text) ELSE s.sender_emoji END,
         recipient_emoji = CASE WHEN s.sender_id = :user_id THEN s.recipient_emoji ELSE CAST(:emoji AS text) END""",
    """CAST(:emoji AS text) IS DISTINCT FROM
         CASE WHEN s.sender_id = :user_id THEN s.sender_emoji ELSE s.recipient_emoji END""",
)
REACT = _change(MessageReacted, *_REACTION)
UNREACT = _change(MessageReacted, *_REACTION, may="true")


def _deletion(event: type[MessageEvent], change: str, may: str) -> db.Statement[DeletedRow]:
    return db.Statement(
        f"""WITH reached AS MATERIALIZED (
  SELECT s.id, m.other_id FROM {_REACHED}
), changed AS (
  UPDATE messages s SET {change} FROM reached WHERE s.id = reached.id AND {may}
  RETURNING s.id, s.sender_id, s.recipient_id, s.deleted_at, reached.other_id,
            new.content IS NULL AND old.content ->> 'type' <> 'text' AS attached
), {_told(event, "changed", "other_id")}
SELECT sender_id, recipient_id, attached, deleted_at FROM changed""",
        DeletedRow,
    )


DELETE = _deletion(
    MessageDeleted,
    """deleted_at = greatest(:now, coalesce(s.edited_at, 0) + 1), content = NULL, sender_emoji = NULL,
         recipient_emoji = NULL, version = s.version + 1""",
    "s.sender_id = :user_id AND s.deleted_at IS NULL",
)
HIDE = _deletion(
    MessageHidden,
    """hidden_by_sender = s.hidden_by_sender OR s.sender_id = :user_id,
         hidden_by_recipient = s.hidden_by_recipient OR s.recipient_id = :user_id""",
    "true",
)

# A message, and those of its chat before it that are no older than `:since`, newest first.
TELLING = db.Statement(
    f"""SELECT to_json(shown),
              ARRAY(SELECT m.user_id FROM messages s JOIN chat_members m ON m.chat_id = s.chat_id
                       AND m.user_id IN (s.sender_id, s.recipient_id) AND m.other_id IN (s.sender_id, s.recipient_id)
                     WHERE s.id = shown.id AND m.box = 'inbox' AND {_IN_CHAT})
         FROM (SELECT {_COLUMNS} FROM messages s {_WITH_REPLY}
                WHERE s.chat_id = (SELECT chat_id FROM messages WHERE id = :id)
                  AND s.id BETWEEN least(:since, :id) AND :id ORDER BY s.id DESC LIMIT :limit) shown
        ORDER BY shown.id DESC""",
    TellingRow,
)
WATERMARKS = db.Statement(
    """SELECT delivered_up_to, read_up_to, box, version FROM chat_members
        WHERE user_id = :user_id AND other_id = :other_id""",
    WatermarksRow,
)
