"""Idempotency keys: a request is its path and body, one run owns its key, and what is stored gives no password away."""

import os
import secrets
from collections.abc import Callable

import msgspec
import pytest

from infra.local.stack import Stack
from shared.kernel import clock, db, http, idempotency, tokens
from shared.kernel.problems import Invalid, Problem, Unavailable
from tests.servers import using


class Kept(msgspec.Struct):
    fingerprint: bytes


FINGERPRINT = db.Statement("SELECT fingerprint FROM idempotency_keys WHERE scope = :scope", Kept)
AGE = db.Statement("UPDATE idempotency_keys SET started_at = :at WHERE scope = :scope")


@pytest.fixture
def scope(stack: Stack) -> str:
    return f"test:{secrets.token_hex(8)}"


def post(scope: str, answer: str | Callable[[], http.Answer], path: str = "/v1/a", body: bytes = b"{}") -> str:
    """What a POST under the one key of `scope` is answered, if it is done now with `answer`."""
    call = answer if callable(answer) else lambda: http.Answer(200, answer.encode(), None)
    return idempotency.once(scope, "key", path, body, call, refused).body.decode()


def refused(problem: Problem) -> http.Answer:
    return http.Answer(problem.status, problem.code.encode(), None)


def too_slow(scope: str) -> None:
    """Let the run under way be one that took too long."""
    with db.connection() as conn:
        AGE.run(conn, scope=scope, at=clock.now_ms() - idempotency.RUNNING_MS - 1)


def test_another_path_is_another_request(scope: str) -> None:
    assert post(scope, "first", "/v1/chats/bob/messages") == "first"
    assert post(scope, "again", "/v1/chats/bob/messages") == "first"
    with pytest.raises(Invalid):
        post(scope, "second", "/v1/chats/carol/messages")
    with pytest.raises(Invalid):
        post(scope, "second", "/v1/chats/bob/messages", b"[]")


def test_a_run_that_lost_its_key_leaves_the_answer_of_the_one_that_has_it(scope: str) -> None:
    def slow() -> http.Answer:
        too_slow(scope)
        assert post(scope, "quick") == "quick"
        return http.Answer(200, b"slow", None)

    assert post(scope, slow) == "slow"
    assert post(scope, "third") == "quick"


def test_a_run_that_lost_its_key_and_fails_does_not_free_it(scope: str) -> None:
    def fails() -> http.Answer:
        too_slow(scope)
        assert post(scope, "quick") == "quick"
        raise Unavailable("storage")

    with pytest.raises(Unavailable):
        post(scope, fails)
    assert post(scope, "third") == "quick"


def test_the_fingerprint_is_of_a_key_that_only_the_server_has(scope: str) -> None:
    body = b'{"password":"guess me"}'
    post(scope, "first", "/v1/login", body)
    with db.connection() as conn:
        stored = bytes(FINGERPRINT.one(conn, scope=scope).fingerprint)
    message = msgspec.msgpack.encode(("/v1/login", body))
    assert stored == tokens.fingerprint(message)
    with using({"TOKEN_KEYS": f"{kid()}:{'A' * 43}"}):
        assert stored != tokens.fingerprint(message)


def test_a_key_that_is_rotated_breaks_no_replay(scope: str) -> None:
    post(scope, "first")
    with using({"TOKEN_KEYS": f"new:{'A' * 43},{os.environ['TOKEN_KEYS']}"}):
        assert post(scope, "second") == "first"


def kid() -> str:
    return os.environ["TOKEN_KEYS"].partition(":")[0]
