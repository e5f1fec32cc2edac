"""Idempotency keys: a request is its path and body, one run owns its key, and what is stored gives no password away."""

import os
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import msgspec
import pytest

from infra.local.stack import Stack
from shared.kernel import clock, db, http, idempotency, tokens
from shared.kernel.problems import Conflict, Invalid, Problem, Unauthorized, Unavailable
from tests.servers import using


class Kept(msgspec.Struct):
    fingerprint: bytes


class Effect(msgspec.Struct):
    effect: str


FINGERPRINT = db.Statement("SELECT fingerprint FROM idempotency_keys WHERE scope = :scope", Kept)
AGE = db.Statement("UPDATE idempotency_keys SET started_at = :at WHERE scope = :scope")


DONE = db.Statement("INSERT INTO effects_done (effect, done_at) VALUES (:effect, 0)")
EFFECTS = db.Statement("SELECT effect FROM effects_done WHERE effect LIKE :prefix ORDER BY effect", Effect)


def done(scope: str, what: str) -> Callable[[], http.Answer]:
    """What does something in a transaction of its own, and answers with its name."""

    def act() -> http.Answer:
        with db.transaction() as conn:
            DONE.run(conn, effect=f"{scope}:{what}")
        return http.Answer(200, what.encode(), None)

    return act


def what_was_done(scope: str) -> list[str]:
    with db.connection() as conn:
        return [row.effect.removeprefix(f"{scope}:") for row in EFFECTS.all(conn, prefix=f"{scope}:%")]


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


def another_takes_over(scope: str) -> None:
    """The run under way took too long, and the same request came again elsewhere."""

    def take_over() -> None:
        too_slow(scope)
        assert post(scope, done(scope, "quick")) == "quick"

    # In a thread, as what the run under way does is in its transaction.
    with ThreadPoolExecutor(1) as threads:
        threads.submit(take_over).result()


def test_another_path_is_another_request(scope: str) -> None:
    assert post(scope, "first", "/v1/chats/bob/messages") == "first"
    assert post(scope, "again", "/v1/chats/bob/messages") == "first"
    with pytest.raises(Invalid):
        post(scope, "second", "/v1/chats/carol/messages")
    with pytest.raises(Invalid):
        post(scope, "second", "/v1/chats/bob/messages", b"[]")


def test_a_run_that_lost_its_key_is_undone_and_the_answer_of_the_one_that_has_it_stands(scope: str) -> None:
    def slow() -> http.Answer:
        another_takes_over(scope)
        return done(scope, "slow")()

    with pytest.raises(Conflict):
        post(scope, slow)
    assert post(scope, "again") == "quick"
    assert what_was_done(scope) == ["quick"]


def test_what_was_done_and_its_answer_are_there_both_or_neither(scope: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(tokens, "seal", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            post(scope, done(scope, "lost"))
    assert what_was_done(scope) == []
    assert post(scope, done(scope, "first")) == "first"
    assert post(scope, done(scope, "second")) == "first"
    assert what_was_done(scope) == ["first"]


@pytest.mark.parametrize("refusal", [Unauthorized("bad_credentials"), Invalid.field("a", "b", "c")])
def test_a_refusal_leaves_what_was_counted_before_it_and_undoes_what_it_refused(scope: str, refusal: Problem) -> None:
    def refuse() -> http.Answer:
        done(scope, "counted")()
        with db.transaction() as conn:
            DONE.run(conn, effect=f"{scope}:refused")
            raise refusal

    with suppress(Unauthorized):
        post(scope, refuse)
    assert what_was_done(scope) == ["counted"]


def test_a_run_that_lost_its_key_and_fails_does_not_free_it(scope: str) -> None:
    def fails() -> http.Answer:
        another_takes_over(scope)
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
