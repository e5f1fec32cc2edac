"""A table to try things on, and statements on it."""

import msgspec

from shared.kernel import db


class Number(msgspec.Struct, frozen=True):
    n: int


class Text(msgspec.Struct, frozen=True):
    text: str | None


ONE = db.Statement("SELECT CAST(:n AS bigint)", Number)
SLEEP = db.Statement("SELECT CAST(:n AS bigint) FROM pg_sleep(0.001 * CAST(:n AS bigint))", Number)
SETTING = db.Statement("SELECT current_setting(:name)", Text)
BACKEND = db.Statement("SELECT pg_backend_pid()", Number)
INSERT = db.Statement("INSERT INTO things (id, name) VALUES (:id, :name)")
COUNT = db.Statement("SELECT count(*) FROM things", Number)
RENAME = db.Statement("UPDATE things SET name = :name WHERE id = :id RETURNING id", Number)


def backend() -> int:
    with db.connection() as conn:
        return BACKEND.one(conn).n


def terminate(pid: int) -> None:
    with db.unlimited() as conn:
        conn.command(f"SELECT pg_terminate_backend({pid}, 5000)")
