"""HTTP as the contract has it: both formats, idempotency keys, conditional reads, the cookie, CORS."""

import re
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from infra.local.stack import Stack
from shared.kernel import tokens
from tests.client import MSGPACK, PASSWORD, Person, Visitor, decoded, trips

Problem = Callable[[httpx.Response, int, str], dict[str, Any]]


class TestFormats:
    def test_both_formats_say_the_same(self, alice: Person) -> None:
        packed = alice.speaking("msgpack")
        post = packed.post_photo("In MessagePack ✨")
        for path in (
            f"/v1/posts/{post['id']}",
            "/v1/feed",
            "/v1/me",
            f"/v1/users/{alice.username}",
            "/v1/notifications",
        ):
            plain, compact = alice.ask("GET", path), packed.ask("GET", path)
            assert plain.headers["content-type"] == "application/json"
            assert compact.headers["content-type"] == MSGPACK
            assert decoded(compact) == decoded(plain)
            assert len(compact.content) < len(plain.content)

    def test_body_and_answer_may_differ_in_format(self, stack: Stack) -> None:
        answer = Visitor(stack.api).ask(
            "POST",
            "/v1/login",
            b"\x82\xa5login\xa1x\xa8password\xa1y",
            content_type="application/msgpack",
            accept=MSGPACK,
        )
        assert answer.status_code == 401
        assert decoded(answer)["code"] == "bad_credentials"

    @pytest.mark.parametrize(
        ("accept", "kind"),
        [
            ("*/*", "application/json"),
            ("application/*", "application/json"),
            ("application/msgpack", "application/msgpack"),
            (f"text/html, {MSGPACK};q=0.5, */*;q=0.1", MSGPACK),
            (f"application/json;q=0.9, {MSGPACK};q=0.8", "application/json"),
        ],
    )
    def test_the_format_liked_best_is_answered(self, alice: Person, accept: str, kind: str) -> None:
        assert alice.ask("GET", "/v1/me", accept=accept).headers["content-type"] == kind


class TestIdempotency:
    def test_the_same_key_replays_the_first_answer(self, alice: Person, problem: Problem) -> None:
        body = {"type": "photo:square", "media": [alice.upload_photo()], "description": "Once"}
        first = alice.ask("POST", "/v1/posts", body, idempotency_key="k1")
        again = alice.ask("POST", "/v1/posts", body, idempotency_key="k1")
        assert (first.status_code, again.status_code) == (201, 201)
        assert again.content == first.content
        assert "idempotent-replayed" not in first.headers
        assert again.headers["idempotent-replayed"] == "true"
        assert alice.get("/v1/me")["counts"]["posts"] == 1
        other = alice.ask("POST", "/v1/posts", body | {"description": "Twice"}, idempotency_key="k1")
        assert problem(other, 422, "invalid")["errors"][0]["field"] == "Idempotency-Key"
        # The object is attached now: under another key it is refused.
        problem(alice.ask("POST", "/v1/posts", body, idempotency_key="k2"), 422, "invalid")

    @pytest.mark.parametrize("body", [{"emial": "x"}, {"email": 1}, {"email": "x"}, {}])
    def test_what_is_refused_before_it_is_tried_is_an_answer_too(
        self, visitor: Visitor, problem: Problem, body: dict[str, Any]
    ) -> None:
        key = secrets.token_hex(8)
        first, again = (visitor.ask("POST", "/v1/signup", body, idempotency_key=key) for _ in range(2))
        problem(first, 422, "invalid")
        assert "idempotent-replayed" not in first.headers
        assert (again.status_code, again.content) == (422, first.content)
        assert again.headers["idempotent-replayed"] == "true"
        mended = {"email": f"{key}@example.com"}
        other = visitor.ask("POST", "/v1/signup", mended, idempotency_key=key)
        assert problem(other, 422, "invalid")["errors"][0]["field"] == "Idempotency-Key"
        assert visitor.ask("POST", "/v1/signup?x=1", mended, idempotency_key=f"{key}2").status_code == 422
        assert visitor.ask("POST", "/v1/signup", mended, idempotency_key=f"{key}3").status_code == 202

    @pytest.mark.parametrize(("path", "status"), [("/v1/posts/0000000000000/comments", 404), ("/v1/reports", 422)])
    def test_what_is_refused_as_it_is_done_is_an_answer_too(self, alice: Person, path: str, status: int) -> None:
        mine = {"subject": {"type": "user", "id": alice.username}, "reason": "spam"}
        body = mine if path == "/v1/reports" else {"text": "Hello?"}
        first, again = (alice.ask("POST", path, body, idempotency_key="k") for _ in range(2))
        assert (first.status_code, again.content) == (status, first.content)
        assert again.headers["idempotent-replayed"] == "true"

    def test_what_says_the_same_is_the_same_body(self, alice: Person, bob: Person) -> None:
        reported = {"id": bob.username, "type": "user"}
        first = alice.ask("POST", "/v1/reports", {"subject": reported, "reason": "spam"}, idempotency_key="k")
        assert first.status_code == 201
        turned = b'{ "reason":"sp\\u0061m", "subject": {"type":"user", "id":"%b"}}' % bob.username.encode()
        packed = {"reason": "spam", "subject": reported}
        for again in (
            alice.ask("POST", "/v1/reports", turned, idempotency_key="k"),
            alice.speaking("msgpack").ask("POST", "/v1/reports", packed, idempotency_key="k"),
        ):
            # In the format that this one asks for.
            assert (again.status_code, decoded(again)) == (201, first.json())
            assert again.headers["idempotent-replayed"] == "true"
        assert again.headers["content-type"] == MSGPACK
        odd = b"\x81\xc4\x01a\x01"  # a map whose key is bytes
        for replayed in (None, "true"):
            answer = alice.speaking("msgpack").ask("POST", "/v1/reports", odd, idempotency_key="odd")
            assert (answer.status_code, answer.headers.get("idempotent-replayed")) == (422, replayed)

    def test_keys_are_each_users_own(self, alice: Person, bob: Person) -> None:
        tickets = {who.post("/v1/live/tickets", idempotency_key="same")["ticket"] for who in (alice, bob)}
        assert len(tickets) == 2

    def test_many_at_once_do_it_once(self, alice: Person) -> None:
        body = {"type": "photo:square", "media": [alice.upload_photo()], "description": "At once"}
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda _: alice.ask("POST", "/v1/posts", body, idempotency_key="k"), range(8)))
        assert {answer.status_code for answer in answers} <= {201, 409}
        assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
        assert alice.get("/v1/me")["counts"]["posts"] == 1

    def test_a_refusal_for_now_is_not_remembered(self, alice: Person, visitor: Visitor, problem: Problem) -> None:
        wrong = {"login": alice.username, "password": "not this one"}
        for _ in range(2):
            refused = visitor.ask("POST", "/v1/login", wrong, idempotency_key="login")
            problem(refused, 401, "bad_credentials")
            assert "idempotent-replayed" not in refused.headers

    @pytest.mark.parametrize("key", ["", "x" * 256, "two words"])
    def test_a_key_that_is_none(self, alice: Person, problem: Problem, key: str) -> None:
        problem(alice.ask("POST", "/v1/live/tickets", idempotency_key=key), 422, "invalid")


class TestConditionalReads:
    def test_an_unchanged_entity_is_not_sent_again(self, alice: Person) -> None:
        post = alice.post_photo("The same")
        for path in (f"/v1/posts/{post['id']}", "/v1/me", f"/v1/users/{alice.username}"):
            first = alice.ask("GET", path)
            for validator in (first.headers["etag"], f'"x", W/{first.headers["etag"]}', "*"):
                again = alice.ask("GET", path, if_none_match=validator)
                assert again.status_code == 304
                assert again.content == b""
                assert again.headers["etag"] == first.headers["etag"]
            assert alice.ask("GET", path, if_none_match='"x"').status_code == 200

    def test_a_change_changes_the_etag(self, alice: Person, bob: Person) -> None:
        path = f"/v1/users/{alice.username}"
        before = bob.ask("GET", path).headers["etag"]
        bob.follow(alice.username)
        answer = bob.ask("GET", path, if_none_match=before)
        assert answer.status_code == 200
        assert answer.headers["etag"] != before

    def test_formats_have_etags_of_their_own(self, alice: Person) -> None:
        assert (
            alice.ask("GET", "/v1/me").headers["etag"] != alice.speaking("msgpack").ask("GET", "/v1/me").headers["etag"]
        )


class TestCookie:
    @pytest.fixture
    def browser(self, stack: Stack, alice: Person) -> httpx.Client:
        """A browser that alice signed in with: it has the cookie alone."""
        client = httpx.Client(base_url=stack.api, trust_env=False)
        client.post("/v1/login", json={"login": alice.username, "password": PASSWORD}).raise_for_status()
        return client

    def test_the_cookie_signs_in(self, browser: httpx.Client, alice: Person) -> None:
        assert browser.get("/v1/me").json()["user"]["username"] == alice.username

    def test_the_cookie_is_kept_from_scripts_and_sealed(self, stack: Stack, alice: Person) -> None:
        answer = httpx.post(f"{stack.api}/v1/login", json={"login": alice.email, "password": PASSWORD}, trust_env=False)
        value, *attributes = answer.headers["set-cookie"].split("; ")
        assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(attributes)
        assert "." not in value.removeprefix("session=")
        assert not re.search(r"eyJ", value)

    def test_the_cookie_goes_with_its_token_and_refreshing_brings_a_new_one(
        self, stack: Stack, browser: httpx.Client, alice: Person
    ) -> None:
        answer = httpx.post(f"{stack.api}/v1/login", json={"login": alice.email, "password": PASSWORD}, trust_env=False)
        assert max_age(answer) == tokens.ACCESS_SECONDS
        # As a browser whose cookie has gone.
        browser.cookies.clear()
        assert browser.get(f"/v1/users/{alice.username}").json()["viewer"] is None
        refresh = {"refresh_token": answer.json()["session"]["refresh_token"]}
        assert max_age(browser.post("/v1/session/refresh", json=refresh)) == tokens.ACCESS_SECONDS
        assert browser.get("/v1/me").json()["user"]["username"] == alice.username

    def test_what_changes_something_must_come_from_our_own_origin(
        self, browser: httpx.Client, stack: Stack, bob: Person, problem: Problem
    ) -> None:
        path = f"/v1/users/{bob.username}/follow"
        problem(browser.put(path), 403, "cross_site")
        for origin in ("https://evil.example", "null", f"{stack.api}.evil.example", ""):
            problem(browser.put(path, headers={"Origin": origin}), 403, "cross_site")
        problem(browser.put(path, headers={"Sec-Fetch-Site": "cross-site"}), 403, "cross_site")
        assert bob.get("/v1/me")["counts"]["followers"] == 0
        assert browser.put(path, headers={"Origin": stack.api}).status_code == 200
        assert browser.delete(path, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200

    def test_signing_out_clears_it_and_ends_the_session(self, browser: httpx.Client, stack: Stack) -> None:
        value = browser.cookies["session"]
        answer = browser.post("/v1/logout", headers={"Origin": stack.api})
        assert answer.status_code == 204
        assert "Max-Age=0" in answer.headers["set-cookie"]
        assert (
            httpx.get(f"{stack.api}/v1/me", headers={"Cookie": f"session={value}"}, trust_env=False).status_code == 401
        )

    def test_a_stale_cookie_refreshes_by_the_body_and_then_signs_out(
        self, stack: Stack, alice: Person, problem: Problem, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        claims = tokens.verify_access(alice.session["access_token"])
        with monkeypatch.context() as earlier:
            earlier.setattr(tokens, "ACCESS_SECONDS", -1)
            stale, _ = tokens.issue_access(claims.user_id, claims.session_id)
        own = {"Origin": stack.api}
        with httpx.Client(base_url=stack.api, trust_env=False, headers=own) as browser:
            browser.cookies.set("session", tokens.seal_cookie(stale), domain="127.0.0.1", path="/")
            problem(browser.get("/v1/me"), 401, "token_expired")
            problem(browser.post("/v1/logout"), 401, "token_expired")
            assert browser.get(f"/v1/users/{alice.username}").json()["viewer"] is None
            refresh = {"refresh_token": alice.session["refresh_token"]}
            assert max_age(browser.post("/v1/session/refresh", json=refresh)) == tokens.ACCESS_SECONDS
            assert browser.get("/v1/me").json()["user"]["username"] == alice.username
            assert max_age(browser.post("/v1/logout")) == 0
            problem(browser.get("/v1/me"), 401, "not_signed_in")
        problem(alice.ask("GET", "/v1/me"), 401, "session_ended")


def max_age(answer: httpx.Response) -> int:
    (found,) = re.findall(r"; Max-Age=(\d+)", answer.headers["set-cookie"])
    return int(found)


class TestSessions:
    def test_refreshing_rotates_and_reuse_ends_the_session(
        self, alice: Person, visitor: Visitor, problem: Problem
    ) -> None:
        old = alice.session["refresh_token"]
        new = visitor.post("/v1/session/refresh", {"refresh_token": old})["session"]
        assert new["id"] == alice.session["id"]
        assert new["refresh_token"] != old
        newest = visitor.post("/v1/session/refresh", {"refresh_token": new["refresh_token"]})["session"]
        assert visitor.ask("POST", "/v1/session/refresh", {"refresh_token": old}).status_code == 401
        answer = visitor.ask("POST", "/v1/session/refresh", {"refresh_token": newest["refresh_token"]})
        assert answer.status_code == 401
        problem(alice.ask("GET", "/v1/me"), 401, "session_ended")

    def test_signing_out_ends_this_session_alone_and_at_once(
        self, alice: Person, visitor: Visitor, problem: Problem
    ) -> None:
        other = visitor.post("/v1/login", {"login": alice.username.upper(), "password": PASSWORD})["session"]
        assert alice.ask("POST", "/v1/logout").status_code == 204
        for method, path in (
            ("GET", "/v1/me"),
            ("GET", "/v1/feed"),
            ("POST", "/v1/live/tickets"),
            ("POST", "/v1/logout"),
        ):
            problem(alice.ask(method, path), 401, "session_ended")
        assert visitor.ask("GET", "/v1/me", authorization=f"Bearer {other['access_token']}").status_code == 200

    def test_every_failed_login_says_the_same(self, alice: Person, visitor: Visitor, problem: Problem) -> None:
        wrong = {"login": alice.username, "password": "not this one"}
        said = [
            problem(visitor.ask("POST", "/v1/login", body), 401, "bad_credentials") | {"instance": ""}
            for body in (wrong, wrong | {"login": "no_such_user_here"}, wrong | {"login": "nobody@example.com"})
        ]
        assert said[0] == said[1] == said[2]


class TestHeaders:
    def test_every_answer_is_hardened_and_limited(self, alice: Person) -> None:
        for path in ("/v1/me", "/v1/feed", "/v1/nothing", "/healthz"):
            fields = alice.ask("GET", path).headers
            assert fields["x-content-type-options"] == "nosniff"
            assert fields["cache-control"] == ("private, no-cache" if "etag" in fields else "no-store")
            assert fields["x-request-id"]
        assert alice.ask("GET", "/v1/me").headers["ratelimit"].startswith('"read";r=')

    def test_cors_is_for_configured_origins(self, stack: Stack, visitor: Visitor) -> None:
        asked = {"access_control_request_method": "PUT", "access_control_request_headers": "authorization"}
        allowed = visitor.ask("OPTIONS", "/v1/users/x/follow", origin=stack.console, **asked)
        assert allowed.status_code == 204
        assert allowed.headers["access-control-allow-origin"] == stack.console
        assert "PUT" in allowed.headers["access-control-allow-methods"]
        foreign = visitor.ask("OPTIONS", "/v1/users/x/follow", origin="https://evil.example", **asked)
        assert "access-control-allow-origin" not in foreign.headers

    def test_head_is_get_without_a_body(self, alice: Person) -> None:
        answer = alice.http.head("/v1/me")
        assert (answer.status_code, answer.content) == (200, b"")
        assert int(answer.headers["content-length"]) > 0


class TestLedger:
    def test_reads_take_two_trips_to_redis_and_none_to_postgres(self, alice: Person, bob: Person) -> None:
        bob.follow(alice.username)
        post = alice.post_photo("Counted")
        for path in (
            f"/v1/posts/{post['id']}",
            "/v1/feed",
            f"/v1/users/{alice.username}",
            f"/v1/users/{alice.username}/posts",
        ):
            bob.ask("GET", path)
            warm = bob.ask("GET", path)
            assert 1 <= trips(warm, "redis") <= 2, (path, warm.headers["server-timing"])
            assert trips(warm, "postgres") == trips(warm, "storage") == 0, (path, warm.headers["server-timing"])

    def test_a_hot_write_takes_one_trip_to_postgres(self, alice: Person, bob: Person) -> None:
        answer = alice.ask("PUT", f"/v1/users/{bob.username}/follow")
        assert trips(answer, "postgres") == 1, answer.headers["server-timing"]


def test_a_connection_that_idled_serves_the_next_request(stack: Stack) -> None:
    url = urlsplit(stack.api)
    connection = HTTPConnection(url.hostname or "", url.port, timeout=10)
    connection.request("GET", "/healthz")
    assert connection.getresponse().read()
    first = connection.sock
    time.sleep(3)
    connection.request("GET", "/healthz")
    assert connection.getresponse().read()
    assert connection.sock is first
    connection.close()
