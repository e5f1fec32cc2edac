"""A session that has ended stays ended, whatever else happens to Redis at the time."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from infra.local.stack import Stack
from shared.accounts import sessions
from shared.accounts.model import RefreshRequest
from shared.kernel import cache, db, events, ids
from shared.kernel import sessions as live_sessions
from shared.kernel.endpoint import Caller, Client
from shared.kernel.problems import Unauthorized
from shared.profiles import reads as profiles
from tests.client import Person, Visitor, sign_in, wait_until
from tests.servers import using

Problem = Callable[[httpx.Response, int, str], dict[str, Any]]


def caller(person: Person) -> Caller:
    return Caller(profiles.named([person.username])[person.username], ids.decode(person.session["id"]))


def test_a_refresh_under_way_brings_no_ended_session_back(alice: Person, visitor: Visitor, problem: Problem) -> None:
    # A logout that commits after the refresh's commit, and tells Redis before the refresh has answered.
    cache.run_sync(live_sessions.ended(caller(alice).session_id))
    new = visitor.post("/v1/session/refresh", {"refresh_token": alice.session["refresh_token"]})["session"]
    problem(visitor.ask("GET", "/v1/me", authorization=f"Bearer {new['access_token']}"), 401, "session_ended")
    cache.run_sync(("DEL", live_sessions.key(caller(alice).session_id)))


def test_no_start_overwrites_an_end() -> None:
    session_id = ids.new_id()
    cache.run_sync(live_sessions.ended(session_id), live_sessions.started(session_id))
    assert cache.run_sync(("GET", live_sessions.key(session_id))) == [b"0"]


def test_an_end_that_redis_was_not_told_of_is_told_later(stack: Stack, alice: Person, problem: Problem) -> None:
    who = caller(alice)
    with alice.live(ticket=False) as live:
        with using({"REDIS_URL": "redis://127.0.0.1:1"}):  # nobody listens there
            sessions.logout(who)
        assert live.close_code() == 4401
        assert [event["event"] for event in live.events] == ["session.ended"]
    wait_until(lambda: cache.run_sync(("GET", live_sessions.key(who.session_id))) == [b"0"])
    problem(alice.ask("GET", "/v1/me"), 401, "session_ended")


def test_a_reuse_that_redis_was_not_told_of_ends_the_session_too(
    stack: Stack, alice: Person, visitor: Visitor, problem: Problem
) -> None:
    visitor.post("/v1/session/refresh", {"refresh_token": alice.session["refresh_token"]})
    with alice.live(ticket=False) as live:
        with using({"REDIS_URL": "redis://127.0.0.1:1"}):
            reuse(alice)
        assert live.close_code() == 4401
    problem(alice.ask("GET", "/v1/me"), 401, "session_ended")


def reuse(person: Person) -> None:
    with pytest.raises(Unauthorized):
        sessions.refresh(RefreshRequest(person.session["refresh_token"]), Client("127.0.0.1", "test"))


def test_ending_all_ends_each_but_one_at_once(alice: Person, problem: Problem) -> None:
    phone, laptop = sign_in(alice.stack, alice.username), sign_in(alice.stack, alice.username)
    who = caller(laptop)
    with phone.live(ticket=False) as live, laptop.live(ticket=False) as kept:
        with db.transaction() as conn:
            commands = sessions.end_all(conn, who.user_id, but=who.session_id)
        events.after_commit(*commands)
        assert live.close_code(1.0) == 4401
        assert kept.act("ping")["ok"]
    for ended in (alice, phone):
        problem(ended.ask("GET", "/v1/me"), 401, "session_ended")
    assert laptop.get("/v1/me")["user"]["username"] == alice.username
    with db.transaction() as conn:
        commands = sessions.end_all(conn, who.user_id)
    events.after_commit(*commands)
    problem(laptop.ask("GET", "/v1/me"), 401, "session_ended")


def test_ending_all_that_redis_was_not_told_of_is_told_later(alice: Person, problem: Problem) -> None:
    who = caller(alice)
    with alice.live(ticket=False) as live:
        with db.transaction() as conn:
            sessions.end_all(conn, who.user_id)
        assert live.close_code() == 4401
    problem(alice.ask("GET", "/v1/me"), 401, "session_ended")


def test_ending_all_is_undone_with_its_transaction(alice: Person) -> None:
    who = caller(alice)
    with db.transaction() as conn:
        sessions.end_all(conn, who.user_id)
        conn.rollback()
        conn.begin()
    assert alice.get("/v1/me")["user"]["username"] == alice.username
