"""Nothing that is held on a user is forgotten when they leave or take it with them, whoever adds a table."""

import re

import msgspec
import pytest

from shared.accounts import erasure_store, export_store
from shared.kernel import db
from shared.visibility.model import SEES_SQL

# Columns that name a user, in the words of the schema.
USERS_COLUMN = re.compile(r"(user|author|actor|other|sender|recipient|reporter|moderator|follower|followee|owner)_id")
# What a table of a user's is not in the archive for.
NOT_EXPORTED = {
    "chats": "with whom there is one is told by how it stands with oneself",
    "exports": "the archive itself",
    "moderation_log": "what moderators did, which is not the user's",
    "erasures": "there is none of an account that can be signed in to",
    "merged_authors": "how what they tell reaches feeds: by how many follow them",
    "signups": "for a day at most",
    "login_failures": "for a day at most",
    "idempotency_keys": "for a day at most",
}
# And a column of one that is. What is called `version` counts how often a row has changed.
COLUMNS_NOT_EXPORTED = {
    "users.id": "the username stands for it",
    "users.password_hash": "would help whoever gets hold of the archive to guess the password",
    "users.state": "active: others can't ask",
    "sessions.user_id": "whose archive it is",
    "sessions.refresh_digest": "opens the session",
    "sessions.previous_digests": "what opened the session",
    "posts.author_id": "whose archive it is",
    "comments.author_id": "whose archive it is",
    "comments.post_author_id": "the post's",
    "comments.gone": "that it is deleted, and nobody's reply is left",
    "messages.chat_id": "with whom is shown",
    "messages.sender_id": "whose archive it is, or whose username is shown",
    "messages.recipient_id": "whose archive it is, or whose username is shown",
    "messages.hidden_by_recipient": "the recipient's",
    "chat_members.user_id": "whose archive it is",
    "chat_members.other_id": "whose username is shown",
    "chat_members.chat_id": "with whom is shown",
    "engagements.user_id": "whose archive it is",
    "mentions.user_id": "whose archive it is",
    "relationships.user_id": "whose archive it is, or whose username is shown",
    "relationships.other_id": "whose archive it is, or whose username is shown",
    "relationships.block_id": "orders a list: made with blocked_at",
    "relationships.mute_id": "orders a list: made with muted_at",
    "notifications.user_id": "whose archive it is",
    "notifications.read_id": "what `unread` goes by",
    "notifications.subject_id": "stands in the subject",
    "notifications.latest_id": "when the latest was whom its owner may see is shown",
    "notifications.actor_count": "counts those as well whom its owner may not see",
    "notifications.told_at": "when sockets were told last",
    "notifications.tell_at": "when sockets are to be told next",
    "notification_actors.notification_id": "stands in it",
    "notification_actors.actor_id": "whose username is shown",
    "notification_actors.act_version": "counts how often the act has changed",
    "notification_settings.user_id": "whose archive it is",
    "reports.reporter_id": "whose archive it is",
    "reports.owner_id": "the subject's",
    "reports.note": "the moderator's, for moderators",
    "reports.resolved_by": "the moderator's, for moderators",
    "uploads.user_id": "whose archive it is",
}


class Column(msgspec.Struct, frozen=True):
    table: str
    column: str


COLUMNS = db.Statement(
    """SELECT table_name, column_name FROM information_schema.columns
        WHERE table_schema = 'public' ORDER BY table_name, ordinal_position""",
    Column,
)
REFERENCES = db.Statement(
    """SELECT CAST(CAST(c.conrelid AS regclass) AS text), a.attname FROM pg_constraint c
         JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)
        WHERE c.contype = 'f' AND c.confrelid = CAST('users' AS regclass)""",
    Column,
)


@pytest.fixture(scope="module", name="tables")
def _tables(stack: object) -> set[str]:
    """Every table that has a column for a user: by its name, or by what it refers to."""
    assert stack
    with db.connection() as conn:
        named = {one.table for one in COLUMNS.all(conn) if USERS_COLUMN.fullmatch(one.column)}
        referring = {one.table for one in REFERENCES.all(conn)}
    assert {"posts", "relationships", "sessions"} <= named & referring
    return named | referring | {"users", "signups", "login_failures", "idempotency_keys"}


def mentioned(sql: str) -> set[str]:
    """The tables that a statement takes rows from, or changes."""
    return set(re.findall(r"(?:FROM|JOIN|UPDATE|INTO)\s+(\w+)", sql))


def test_every_table_of_a_users_is_erased(tables: set[str]) -> None:
    erased = {table for step in erasure_store.LATER for table in mentioned(step.erase.sql)}
    assert tables - erased - erasure_store.ELSEWHERE.keys() == set()


def test_every_table_of_a_users_is_in_the_archive(tables: set[str]) -> None:
    shown = {table for section in export_store.SECTIONS for table in mentioned(section.items.sql)}
    assert tables - shown == NOT_EXPORTED.keys()


def shown_columns() -> set[str]:
    """What the items of the archive are made of, not what they are chosen by."""
    found: set[str] = set()
    for section in export_store.SECTIONS:
        sql = section.items.sql.replace(SEES_SQL.format(other="o.id"), "true")
        tables = {alias: table for table, alias in re.findall(r"(?:FROM|JOIN)\s+(\w+) (\w+)", sql)}
        made_of = sql[sql.index("json_build_object(") : sql.rindex(" AS text)")]
        made_of = re.sub(r"\b(?:ON|WHERE|AND|BY) \w+\.\w+( = \w+\.\w+)?", "", made_of)
        found |= {f"{tables[a]}.{column}" for a, column in re.findall(r"\b(\w+)\.(\w+)\b", made_of) if a in tables}
    return found


def test_every_column_of_a_users_is_in_the_archive(tables: set[str]) -> None:
    with db.connection() as conn:
        columns = {
            f"{one.table}.{one.column}" for one in COLUMNS.all(conn) if one.table in tables - NOT_EXPORTED.keys()
        }
    wanted = {column for column in columns if not column.endswith(".version")}
    assert wanted - shown_columns() == COLUMNS_NOT_EXPORTED.keys()


def test_steps_and_files_have_names_of_their_own() -> None:
    names = [step.name for step in erasure_store.STEPS]
    files = [section.file for section in export_store.SECTIONS]
    assert len(set(names)) == len(names)
    assert len(set(files)) == len(files)
