"""Nothing that is held on a user is forgotten when they leave or take it with them, whoever adds a table."""

import re

import msgspec
import pytest

from shared.accounts import erasure_store, export_store
from shared.kernel import db

# Columns that name a user, in the words of the schema.
USERS_COLUMN = re.compile(r"(user|author|actor|other|sender|recipient|reporter|moderator|follower|followee|owner)_id")
# What a table of a user's is not in the archive for.
NOT_EXPORTED = {
    "notification_actors": "who else acted is told by the notifications",
    "chats": "with whom there is one is told by how it stands with oneself",
    "exports": "the archive itself",
    "merged_authors": "how feeds hear of an author, which follows from their followers",
    "moderation_log": "what moderators did, which is not the user's",
    "erasures": "there is none of an account that can be signed in to",
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
    passing = {"signups", "login_failures", "idempotency_keys"}  # for a day at most
    assert tables - shown - NOT_EXPORTED.keys() - passing == set()


def test_steps_and_files_have_names_of_their_own() -> None:
    names = [step.name for step in erasure_store.STEPS]
    files = [section.file for section in export_store.SECTIONS]
    assert len(set(names)) == len(names)
    assert len(set(files)) == len(files)
