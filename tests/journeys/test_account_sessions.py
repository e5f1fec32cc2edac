"""Devices: seen by their owner, and signed out from afar, at once."""

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from infra.local.stack import Stack
from shared.kernel import ids
from tests.client import PASSWORD, Format, Person, Visitor, sign_in, sign_up

Problem = Callable[[httpx.Response, int, str], dict[str, Any]]


def device(stack: Stack, username: str, user_agent: str, format: Format) -> Person:
    """Somebody's session, opened by this browser."""
    browser = Visitor(stack.api, format=format)
    signed_in = browser.post("/v1/login", {"login": username, "password": PASSWORD}, user_agent=user_agent)
    return Person(stack, username, signed_in, format=format)


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_a_lost_phone_is_signed_out(stack: Stack, problem: Problem, format: Format) -> None:
    desk = sign_up(stack, format=format)
    phone = device(stack, desk.username, "Phone/1.0", format)

    devices = desk.get("/v1/me/sessions")
    assert devices["next_cursor"] is None
    assert [one["id"] for one in devices["items"]] == [phone.session["id"], desk.session["id"]]
    assert [one["current"] for one in devices["items"]] == [False, True]
    assert devices["items"][0]["user_agent"] == "Phone/1.0"
    assert devices["items"][0]["last_used_at"] == devices["items"][0]["created_at"]
    assert abs(devices["items"][0]["created_at"] - time.time() * 1000) < 60_000

    path = f"/v1/me/sessions/{phone.session['id']}"
    with phone.live() as live:
        assert desk.ask("DELETE", path).status_code == 204
        assert live.close_code(1.0) == 4401
    problem(phone.ask("GET", "/v1/me"), 401, "session_ended")
    tokens = {"refresh_token": phone.session["refresh_token"]}
    problem(Visitor(stack.api, format=format).ask("POST", "/v1/session/refresh", tokens), 401, "invalid_refresh_token")
    problem(desk.ask("DELETE", path), 404, "session_not_found")
    assert [one["id"] for one in desk.get("/v1/me/sessions")["items"]] == [desk.session["id"]]


def test_all_other_devices_at_once(stack: Stack, alice: Person, problem: Problem) -> None:
    others = [sign_in(stack, alice.username) for _ in range(3)]
    with others[0].live() as first, others[1].live() as second, alice.live() as own:
        for _ in range(2):
            assert alice.ask("DELETE", "/v1/me/sessions").status_code == 204
        assert [first.close_code(1.0), second.close_code(1.0)] == [4401, 4401]
        assert own.act("ping")["ok"]
    for other in others:
        problem(other.ask("GET", "/v1/me"), 401, "session_ended")
    assert len(alice.get("/v1/me/sessions")["items"]) == 1


def test_nobody_ends_anothers_session(alice: Person, bob: Person, visitor: Visitor, problem: Problem) -> None:
    path = f"/v1/me/sessions/{bob.session['id']}"
    for session_id in (bob.session["id"], ids.encode(ids.new_id()), "nonsense"):
        problem(alice.ask("DELETE", f"/v1/me/sessions/{session_id}"), 404, "session_not_found")
    for method, refused in (("GET", "/v1/me/sessions"), ("DELETE", "/v1/me/sessions"), ("DELETE", path)):
        problem(visitor.ask(method, refused), 401, "not_signed_in")
    assert bob.get("/v1/me/sessions")["items"][0]["id"] == bob.session["id"]


def test_ending_the_session_in_use_takes_the_cookie_too(stack: Stack, alice: Person, problem: Problem) -> None:
    other = sign_in(stack, alice.username)
    assert "set-cookie" not in alice.ask("DELETE", f"/v1/me/sessions/{other.session['id']}").headers
    ended = alice.ask("DELETE", f"/v1/me/sessions/{alice.session['id']}")
    assert ended.status_code == 204
    assert "max-age=0" in ended.headers["set-cookie"].lower()
    problem(alice.ask("GET", "/v1/me"), 401, "session_ended")


def test_paging_through_many_devices(stack: Stack, alice: Person) -> None:
    for _ in range(4):
        sign_in(stack, alice.username)
    whole = alice.get("/v1/me/sessions")["items"]
    assert len(whole) == 5
    assert list(alice.items("/v1/me/sessions", limit=2)) == whole
    # What is ended between two pages hides nothing else.
    first = alice.get("/v1/me/sessions", limit=2)
    alice.delete(f"/v1/me/sessions/{first['items'][1]['id']}")
    assert alice.get("/v1/me/sessions", limit=20, cursor=first["next_cursor"])["items"] == whole[2:]


def test_a_refresh_is_a_use(stack: Stack, alice: Person) -> None:
    before = alice.get("/v1/me/sessions")["items"][0]
    tokens = {"refresh_token": alice.session["refresh_token"]}
    Visitor(stack.api).post("/v1/session/refresh", tokens, user_agent="Newer/2.0")
    after = alice.get("/v1/me/sessions")["items"][0]
    assert after["last_used_at"] > before["last_used_at"]
    assert (after["created_at"], after["user_agent"]) == (before["created_at"], "Newer/2.0")
