"""Who signs in while their account is suspended is refused like anybody: whenever in between it happens."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import msgspec

from infra.local.stack import Stack
from shared.kernel import db, events
from shared.moderation import actions as moderation
from shared.profiles import reads as profiles
from tests.client import PASSWORD, Person, Visitor, wait_until

Problem = Callable[[httpx.Response, int, str], dict[str, Any]]


class Count(msgspec.Struct, frozen=True):
    count: int


WAITING = db.Statement(
    "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = CAST(CAST(:named AS text) AS regclass)", Count
)


def somebody_waits_for(table: str) -> bool:
    with db.connection() as conn:
        return WAITING.one(conn, named=table).count > 0


def suspend_as_soon_as_the_login_has_committed(user_id: int) -> None:
    with db.transaction() as conn:
        conn.command("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        commands = moderation._suspend(conn, user_id)
    events.after_commit(*commands)


def test_suspended_between_the_commit_and_the_answer(stack: Stack, alice: Person, problem: Problem) -> None:
    user_id = profiles.named([alice.username])[alice.username]
    login = {"login": alice.username, "password": PASSWORD}
    with ThreadPoolExecutor(2) as threads:
        with db.transaction() as conn:
            conn.command("LOCK TABLE sessions IN SHARE MODE")
            answer = threads.submit(Visitor(stack.api).ask, "POST", "/v1/login", login)
            wait_until(lambda: somebody_waits_for("sessions"))
            suspended = threads.submit(suspend_as_soon_as_the_login_has_committed, user_id)
            wait_until(lambda: somebody_waits_for("users"))
        suspended.result()
        problem(answer.result(), 401, "bad_credentials")
