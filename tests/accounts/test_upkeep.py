"""What has expired is deleted by the clock; what has not stays."""

import secrets
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from infra.local.stack import Stack
from shared.accounts.sessions import FORGOTTEN_MS
from shared.accounts.upkeep import EFFECTS_KEPT_MS, PROOFS_KEPT_MS, SESSIONS_KEPT_MS
from shared.kernel import clock, db, idempotency, ids, upkeep
from shared.kernel.upkeep import UpkeepDue
from shared.profiles import reads as profiles
from tests.client import Person, wait_until


class Mine(msgspec.Struct, frozen=True):
    mark: str


ADD_SIGNUP = db.Statement(
    """INSERT INTO signups (id, token_digest, email, open, key_id, created_at, expires_at)
       VALUES (:id, :digest, :mark, true, 'k', 0, :over)"""
)
ADD_FAILURE = db.Statement("INSERT INTO login_failures (subject, failures, last_at) VALUES (:mark, 9, :over)")
ADD_EFFECT = db.Statement("INSERT INTO effects_done (effect, done_at) VALUES (:mark, :over)")
ADD_KEY = db.Statement(
    """INSERT INTO idempotency_keys (scope, key, fingerprint, owner, started_at, expires_at)
       VALUES (:mark, 'key', '', 1, 0, :over)"""
)
ADD_SESSION = db.Statement(
    """INSERT INTO sessions (id, user_id, refresh_digest, user_agent, created_at, last_used_at, refresh_expires_at,
                             ended_at)
       VALUES (:id, :user_id, '', :mark, 0, 0, :expires, :ended)"""
)
THERE = db.Statement(
    """SELECT mark FROM (SELECT email FROM signups UNION ALL SELECT subject FROM login_failures
         UNION ALL SELECT effect FROM effects_done UNION ALL SELECT scope FROM idempotency_keys
         UNION ALL SELECT user_agent FROM sessions) AS every (mark) WHERE mark LIKE :mine || '%' ORDER BY mark""",
    Mine,
)
DUE = db.Statement("UPDATE schedules SET next_at = 0 WHERE topic = :topic")


def add(mine: str, user_id: int, ago_ms: int) -> None:
    """A row in each table that was over `ago_ms` before the time when it may be deleted."""
    over = clock.now_ms() - ago_ms
    with db.connection() as conn:
        proof = {"id": ids.new_id(), "digest": secrets.token_bytes(8)}
        ADD_SIGNUP.run(conn, mark=f"{mine} signup", over=over - PROOFS_KEPT_MS, **proof)
        ADD_FAILURE.run(conn, mark=f"{mine} failure", over=over - FORGOTTEN_MS)
        ADD_EFFECT.run(conn, mark=f"{mine} effect", over=over - EFFECTS_KEPT_MS)
        ADD_KEY.run(conn, mark=f"{mine} key", over=over)
        later, over = clock.now_ms() + 1_000_000, over - SESSIONS_KEPT_MS
        for name, expires, ended in (("ended", later, over), ("expired", over, None)):
            ADD_SESSION.run(conn, id=ids.new_id(), user_id=user_id, mark=f"{mine} {name}", expires=expires, ended=ended)


def there(mine: str) -> list[str]:
    with db.connection() as conn:
        return [row.mark.removeprefix(f"{mine} ") for row in THERE.all(conn, mine=mine)]


def test_what_has_expired_is_deleted_when_it_is_time(stack: Stack, alice: Person) -> None:
    user_id = profiles.named([alice.username])[alice.username]
    old, fresh = secrets.token_hex(8), secrets.token_hex(8)
    add(old, user_id, 1000)
    add(fresh, user_id, -600_000)
    every = ["effect", "ended", "expired", "failure", "key", "signup"]
    assert there(old) == there(fresh) == every
    with db.connection() as conn:
        assert DUE.run(conn, topic=UpkeepDue.topic) == 1
    wait_until(lambda: not there(old))
    assert there(fresh) == every
    assert alice.get("/v1/me")


@pytest.mark.usefixtures("stack")
def test_sweeping_twice_at_once_goes_on_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "BATCH", 3)
    mine = secrets.token_hex(8)
    with db.connection() as conn:
        for number in range(20):
            ADD_KEY.run(conn, mark=f"{mine} {number}", over=1)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: idempotency.sweep_expired(), range(4)))
    assert there(mine) == []
