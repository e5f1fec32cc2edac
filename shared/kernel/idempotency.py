"""Idempotency keys: the same key, caller, path and body within 24 h replays the first answer and does nothing twice.

Source: the IETF draft "The Idempotency-Key HTTP Header Field". Answers are kept sealed: some carry tokens.
"""

import re
from collections.abc import Callable
from typing import Final

import msgspec

from shared.kernel import clock, db, events, http, ids, tokens, upkeep
from shared.kernel.problems import Conflict, FieldError, Invalid, Problem

KEPT_MS: Final = 24 * 3600 * 1000
# From then on a run has its lock: a key without answer whose lock is free is one whose run died.
LOCKED_WITHIN_MS: Final = 2_000
# Refusals that say "not now": remembered, they would keep out for a day who obeys their Retry-After.
_PASSING: Final = (401, 429)
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")


class _Kept(msgspec.Struct):
    status: int
    body: bytes
    fields: list[tuple[bytes, bytes]]


class _Locked(msgspec.Struct, frozen=True):
    held: bool


class _Row(msgspec.Struct, frozen=True):
    fingerprint: bytes
    answer: bytes | None
    owner: int


_LOCK_NAME: Final = "1, hashtext(:scope || ' ' || :key)"  # two integers: a space of its own
_DIED: Final = f"k.answer IS NULL AND k.started_at <= :stale AND pg_try_advisory_xact_lock({_LOCK_NAME})"
# Takes the key, or one whose time is up, or one whose run died; otherwise shows who has it.
_TAKE = db.Statement(
    f"""INSERT INTO idempotency_keys AS k (scope, key, fingerprint, owner, started_at, expires_at)
       VALUES (:scope, :key, :fingerprint, :owner, :now, :expires)
       ON CONFLICT (scope, key) DO UPDATE SET
         fingerprint = CASE WHEN k.expires_at <= :now THEN excluded.fingerprint ELSE k.fingerprint END,
         answer = CASE WHEN k.expires_at <= :now THEN NULL ELSE k.answer END,
         owner = CASE WHEN k.expires_at <= :now
                        OR (k.fingerprint = excluded.fingerprint AND {_DIED})
                      THEN excluded.owner ELSE k.owner END,
         started_at = CASE WHEN k.expires_at <= :now OR (k.fingerprint = excluded.fingerprint AND {_DIED})
                      THEN excluded.started_at ELSE k.started_at END,
         expires_at = CASE WHEN k.expires_at <= :now THEN excluded.expires_at ELSE k.expires_at END
       RETURNING fingerprint, answer, owner""",
    _Row,
)
_LOCK = db.Statement(f"SELECT pg_advisory_xact_lock({_LOCK_NAME}) IS NOT NULL", _Locked)
# Of its own run alone: one that took too long has lost the key to another, and undoes what it did.
_KEEP = db.Statement(
    "UPDATE idempotency_keys SET answer = :answer WHERE scope = :scope AND key = :key AND owner = :owner"
)
# Not one that has its answer: the commit that lost its confirmation may have come to pass.
_DROP = db.Statement(
    "DELETE FROM idempotency_keys WHERE scope = :scope AND key = :key AND owner = :owner AND answer IS NULL"
)
_DELETE_EXPIRED = db.Statement(
    """WITH expired AS MATERIALIZED (
         SELECT scope, key FROM idempotency_keys WHERE expires_at < :before
          ORDER BY expires_at LIMIT :limit FOR UPDATE SKIP LOCKED)
       DELETE FROM idempotency_keys AS k USING expired WHERE k.scope = expired.scope AND k.key = expired.key"""
)


def faults(key: str) -> list[FieldError]:
    """What is wrong with a key."""
    if _KEY.fullmatch(key):
        return []
    return [FieldError("Idempotency-Key", "malformed", "A key is 1 to 255 visible ASCII characters.")]


def once(
    scope: str,
    key: str,
    path: str,
    body: bytes,
    call: Callable[[], http.Answer],
    refuse: Callable[[Problem], http.Answer],
) -> http.Answer:
    """The answer of `call` to a POST, or its replay; `refuse` makes the answer of a problem, which is remembered too.

    Raises Conflict while the first still runs, Invalid for another request; what `call` raises of 5xx isn't remembered.
    """
    message = msgspec.msgpack.encode((path, body))
    fingerprint = tokens.fingerprint(message)
    now, owner = clock.now_ms(), ids.new_id()
    with db.connection() as conn:
        row = _TAKE.one(
            conn,
            scope=scope,
            key=key,
            fingerprint=fingerprint,
            owner=owner,
            now=now,
            expires=now + KEPT_MS,
            stale=now - LOCKED_WITHIN_MS,
        )
    first = bytes(row.fingerprint)
    if first != tokens.fingerprint(message, like=first):
        raise Invalid.field("Idempotency-Key", "reused", "This key was used for another request.")
    if row.answer is not None:
        return _replay(bytes(row.answer))
    if row.owner != owner:
        raise _running_elsewhere()
    return _run(scope, key, owner, call, refuse)


def _run(
    scope: str, key: str, owner: int, call: Callable[[], http.Answer], refuse: Callable[[Problem], http.Answer]
) -> http.Answer:
    try:
        # One transaction: what was done and its answer are there both, or neither.
        with db.together() as conn:
            _LOCK.one(conn, scope=scope, key=key)
            outcome = _outcome(call, refuse)
            if isinstance(outcome, http.Answer):
                kept = msgspec.msgpack.encode(_Kept(outcome.status, outcome.body, outcome.fields))
                if not _KEEP.run(conn, scope=scope, key=key, owner=owner, answer=tokens.seal(kept)):
                    raise _running_elsewhere()
    except BaseException:
        events.undone()
        _forget(scope, key, owner)
        raise
    if isinstance(outcome, Problem):
        _forget(scope, key, owner)
        raise outcome
    return outcome


def _outcome(call: Callable[[], http.Answer], refuse: Callable[[Problem], http.Answer]) -> http.Answer | Problem:
    try:
        return call()
    except Problem as problem:
        if problem.status >= 500:
            raise
        return problem if problem.status in _PASSING else refuse(problem)


def _running_elsewhere() -> Conflict:
    return Conflict("still_running", "The first request under this key is still running.", headers={"Retry-After": "1"})


def _forget(scope: str, key: str, owner: int) -> None:
    with db.connection() as conn:
        _DROP.run(conn, scope=scope, key=key, owner=owner)


def _replay(sealed: bytes) -> http.Answer:
    kept = msgspec.msgpack.decode(tokens.unseal(sealed), type=_Kept)
    answer = http.Answer(kept.status, kept.body, None)
    answer.fields = list(kept.fields)
    answer.set("idempotent-replayed", "true")
    return answer


def sweep_expired() -> None:
    """Delete keys whose time is up. Safe to run twice at once."""
    upkeep.sweep(_DELETE_EXPIRED, clock.now_ms())
