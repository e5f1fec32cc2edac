"""Bad input: the right problem document, nothing changed, the process unmoved."""

import base64
import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
import msgpack
import pytest

from infra.local.stack import Stack
from infra.photos import make_photo
from shared.kernel.config import settings
from tests.client import MSGPACK, PASSWORD, Mailbox, Person, Visitor, send, sign_up

Problem = Callable[[httpx.Response, int, str], dict[str, Any]]
JPEG = make_photo(1).actual
UNKNOWN_ID = "0" * 13
PARTS = ("api", "background", "relay", "live")


@pytest.fixture(autouse=True)
def _unmoved(stack: Stack) -> Iterator[None]:
    before = {part: stack.reread().pids.get(part) for part in PARTS}
    yield
    assert {part: stack.reread().pids.get(part) for part in PARTS} == before


@pytest.fixture(scope="module")
def carol(stack: Stack) -> Person:
    """Someone whom nothing here may change."""
    return sign_up(stack)


def faults(problem: dict[str, Any]) -> dict[str, str]:
    """Field → code of every fault."""
    return {fault["field"]: fault["code"] for fault in problem["errors"]}


def nested(levels: int) -> bytes:
    return b'{"email":' + b"[" * levels + b"]" * levels + b"}"


class TestBodies:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b'{"email":}',
            b"\xff\xfe",
            b'{"email":"\xc3\x28"}',
            b"nonsense",
            b'{"email":"a"}x',
            b"\x00",
            b"NaN",
        ],
    )
    def test_unreadable_json(self, visitor: Visitor, problem: Problem, body: bytes) -> None:
        problem(visitor.ask("POST", "/v1/signup", body), 400, "unreadable_body")

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"\xc1",
            b"\x81",
            b"\x81\xa5email",
            b"\xdf\xff\xff\xff\xff",
            b"\x90\x90",
            b"\xc7\xff\x01a",
            b"\xd9\x02\xff\xfe",
        ],
    )
    def test_unreadable_messagepack(self, visitor: Visitor, problem: Problem, body: bytes) -> None:
        problem(visitor.ask("POST", "/v1/signup", body, content_type=MSGPACK), 400, "unreadable_body")

    @pytest.mark.parametrize("body", [b"[]", b"null", b'"x"', b"1", b"true"])
    def test_not_a_map(self, visitor: Visitor, problem: Problem, body: bytes) -> None:
        assert faults(problem(visitor.ask("POST", "/v1/signup", body), 422, "invalid")) == {"body": "wrong_type"}

    @pytest.mark.parametrize("format", ["json", "msgpack"])
    def test_every_fault_is_named(self, stack: Stack, problem: Problem, format: Any) -> None:
        visitor = Visitor(stack.api, format=format)
        body = {"signup_token": 7, "name": "", "password": None, "bio": "x" * 151, "colour": "red", "birthday": "soon"}
        found = faults(problem(visitor.ask("POST", "/v1/signup/complete", body), 422, "invalid"))
        assert found.keys() == {"signup_token", "username", "name", "password", "bio", "colour", "birthday"}
        assert found["username"] == "missing"
        assert found["colour"] == "unknown_field"
        assert found["signup_token"] == found["password"] == "wrong_type"

    def test_faults_deep_inside_are_named_by_path(self, carol: Person, problem: Problem) -> None:
        media = [{"actual": "a", "placeholder": "b", "width": 1, "height": 1}, {"actual": 1, "width": 0, "x": 1}]
        answer = carol.ask("POST", "/v1/posts", {"type": "photo", "media": media})
        assert faults(problem(answer, 422, "invalid")).keys() >= {
            "type",
            "description",
            "media[1].actual",
            "media[1].placeholder",
            "media[1].width",
            "media[1].height",
            "media[1].x",
        }

    def test_a_body_over_one_mebibyte(self, visitor: Visitor, problem: Problem) -> None:
        body = b'{"email":"' + b"x" * (1 << 20) + b'"}'
        problem(visitor.ask("POST", "/v1/signup", body), 413, "body_too_large")
        chunks = (body[at : at + 65536] for at in range(0, len(body), 65536))
        answer = visitor.http.post("/v1/signup", content=chunks, headers={"Content-Type": "application/json"})
        problem(answer, 413, "body_too_large")

    def test_a_body_of_one_mebibyte_is_read(self, visitor: Visitor, problem: Problem) -> None:
        body = b'{"email":"' + b"x" * ((1 << 20) - 12) + b'"}'
        assert len(body) == 1 << 20
        problem(visitor.ask("POST", "/v1/signup", body), 422, "invalid")

    @pytest.mark.parametrize("levels", [32, 1000, 100_000, 500_000])
    def test_deep_nesting(self, visitor: Visitor, problem: Problem, levels: int) -> None:
        problem(visitor.ask("POST", "/v1/signup", nested(levels)), 400, "too_deep")
        deep = b"\x81\xa5email" + b"\x91" * levels + b"\xc0"
        answer = visitor.ask("POST", "/v1/signup", deep, content_type=MSGPACK)
        assert answer.json()["code"] in ("too_deep", "unreadable_body")
        assert answer.status_code == 400

    def test_nesting_within_the_limit_is_judged_by_type(self, visitor: Visitor, problem: Problem) -> None:
        problem(visitor.ask("POST", "/v1/signup", nested(31)), 422, "invalid")

    def test_brackets_in_strings_are_no_nesting(self, visitor: Visitor, problem: Problem) -> None:
        body = json.dumps({"email": "[" * 40 + '\\"' + "{" * 40}).encode()
        assert faults(problem(visitor.ask("POST", "/v1/signup", body), 422, "invalid")).keys() == {"email"}

    @pytest.mark.parametrize("format", ["json", "msgpack"])
    def test_nul_in_strings(self, stack: Stack, problem: Problem, format: Any) -> None:
        answer = Visitor(stack.api, format=format).ask("POST", "/v1/signup", {"email": "a\x00b@example.com"})
        assert faults(problem(answer, 422, "invalid"))["email"] == "nul_character"

    @pytest.mark.parametrize(
        ("body", "kind"),
        [
            (b'{"email":"\\ud800@example.com"}', "application/json"),
            (b'{"email":"\\udfff\\ud800@example.com"}', "application/json"),
            (b"\x81\xa5email\xa3\xed\xa0\x80", MSGPACK),
        ],
    )
    def test_lone_surrogates(self, visitor: Visitor, problem: Problem, body: bytes, kind: str) -> None:
        problem(visitor.ask("POST", "/v1/signup", body, content_type=kind), 400, "unreadable_body")

    @pytest.mark.parametrize("value", ["1" * 5000, "-1", "1e400", "9" * 30, "0.5", "true", "[1]"])
    def test_numbers_out_of_all_bounds(self, carol: Person, problem: Problem, value: str) -> None:
        body = f'{{"purpose":"post","files":[{{"variant":"actual","content_type":"image/png","size":{value}}}]}}'
        answer = carol.ask("POST", "/v1/uploads", body.encode())
        assert answer.status_code in (400, 422)
        problem(answer, answer.status_code, "invalid" if answer.status_code == 422 else "unreadable_body")

    def test_messagepack_keys_that_are_no_strings(self, visitor: Visitor, problem: Problem) -> None:
        for body in ({1: 2}, {None: 1}, {"email": {1: 2}}):
            answer = visitor.ask("POST", "/v1/signup", bytes(msgpack.packb(body) or b""), content_type=MSGPACK)
            assert answer.status_code in (400, 422), answer.text
            problem(answer, answer.status_code, answer.json()["code"])

    @pytest.mark.parametrize("format", ["json", "msgpack"])
    def test_no_more_faults_are_told_than_anybody_mends(self, stack: Stack, problem: Problem, format: Any) -> None:
        visitor = Visitor(stack.api, format=format)
        many = visitor.ask("POST", "/v1/signup", {f"field{number}": number for number in range(50_000)})
        assert len(problem(many, 422, "invalid")["errors"]) == 100
        assert len(many.content) < 20_000

    def test_a_body_where_none_belongs(self, carol: Person, problem: Problem) -> None:
        with_field = carol.ask("PUT", "/v1/notifications/read", {"x": 1})
        assert faults(problem(with_field, 422, "invalid")) == {"x": "unknown_field"}
        problem(carol.ask("POST", "/v1/live/tickets", b"[", content_type="application/json"), 400, "unreadable_body")
        problem(carol.ask("POST", "/v1/live/tickets", b"{}", content_type="text/html"), 415, "unsupported_media_type")
        assert carol.ask("PUT", "/v1/notifications/read", {}).status_code == 200

    def test_a_compressed_body(self, visitor: Visitor, problem: Problem) -> None:
        packed = visitor.ask("POST", "/v1/signup", {"email": "a@example.com"}, content_encoding="gzip")
        problem(packed, 415, "unsupported_encoding")

    def test_faults_of_types_and_of_rules_are_named_together(self, visitor: Visitor, problem: Problem) -> None:
        account = {
            "signup_token": "x",
            "username": "A!",
            "name": "a\u202eb",
            "password": "x",
            "birthday": "1800-01-01",
            "bio": 5,
            "more": 1,
        }
        refused = problem(visitor.ask("POST", "/v1/signup/complete", account), 422, "invalid")
        assert faults(refused) == {
            "username": "invalid_username",
            "name": "control_character",
            "password": "wrong_length",
            "birthday": "impossible",
            "bio": "wrong_type",
            "more": "unknown_field",
        }

    @pytest.mark.parametrize("name", ["\u200b", "\u3164", "\u115f\u1160", " ", "\u00a0\u2009", "\u0301"])
    def test_a_name_with_nothing_to_see(self, visitor: Visitor, problem: Problem, name: str) -> None:
        account = {"signup_token": "x", "username": "unseen", "name": name, "password": "a long enough one"}
        refused = problem(visitor.ask("POST", "/v1/signup/complete", account), 422, "invalid")
        assert faults(refused)["name"] == "blank"


class TestFaultsOfEveryKindAtOnce:
    """What can be told of a field is told, whatever is wrong with the others."""

    @pytest.mark.parametrize("format", ["json", "msgpack"])
    def test_uploads(self, carol: Person, problem: Problem, format: Any) -> None:
        files: list[dict[str, Any]] = [
            {"variant": "actual", "content_type": "image/jpeg", "size": 1},
            {"variant": "small", "content_type": "image/jpeg", "size": "big"},
            {"variant": "actual", "content_type": "audio/mpeg", "size": 5000, "x": 1},
            {"variant": 7, "content_type": "image/gif", "size": 5000},
            {"variant": "placeholder", "content_type": "video/mp4", "size": 5000},
            {"variant": "placeholder", "content_type": "image/png"},
        ]
        answer = carol.speaking(format).ask("POST", "/v1/uploads", {"purpose": "post", "files": files})
        told = {
            "files[0].size": "wrong_size",
            "files[1].variant": "wrong_variant",
            "files[1].size": "wrong_type",
            "files[2].content_type": "wrong_content_type",
            "files[2].x": "unknown_field",
            "files[3].variant": "wrong_type",
            "files[3].content_type": "wrong_content_type",
            "files[4].content_type": "wrong_content_type",
            "files[5].size": "missing",
        }
        assert faults(problem(answer, 422, "invalid")) == told
        # For what nobody knows, sizes can be told all the same.
        answer = carol.ask("POST", "/v1/uploads", {"purpose": "fun", "files": files[:1] + files[4:5]})
        assert faults(problem(answer, 422, "invalid")) == {
            "purpose": "invalid",
            "files[0].size": "wrong_size",
            "files[1].content_type": "wrong_content_type",
        }

    def test_a_reel_of_two_with_faults(self, carol: Person, problem: Problem) -> None:
        media = [{"actual": "a", "placeholder": "b", "width": 0, "height": 1}, {"actual": "c", "width": 1, "height": 1}]
        answer = carol.ask("POST", "/v1/posts", {"type": "reel", "media": media, "description": "x" * 2201})
        assert faults(problem(answer, 422, "invalid")) == {
            "media": "too_many",
            "media[0].width": "invalid",
            "media[1].placeholder": "missing",
            "description": "invalid",
        }

    def test_a_list_with_faults_of_both_kinds(self, carol: Person, problem: Problem) -> None:
        body = {"links": ["javascript:1", 5, "https://ok.example", "x" * 201], "name": "\u202e"}
        assert faults(problem(carol.ask("PATCH", "/v1/me", body), 422, "invalid")) == {
            "links[0]": "invalid_link",
            "links[1]": "wrong_type",
            "links[3]": "invalid",
            "name": "control_character",
        }

    def test_a_password_that_is_the_username(self, visitor: Visitor, problem: Problem) -> None:
        account = {"signup_token": 1, "username": "somebody.new", "name": "S", "password": "Somebody.New"}
        assert faults(problem(visitor.ask("POST", "/v1/signup/complete", account), 422, "invalid")) == {
            "signup_token": "wrong_type",
            "password": "too_obvious",
        }

    def test_a_blank_comment_with_more(self, carol: Person, problem: Problem) -> None:
        path = f"/v1/posts/{carol.post_photo()['id']}/comments"
        answer = carol.ask("POST", path, {"text": " ", "attachment": None, "colour": "red"})
        assert faults(problem(answer, 422, "invalid")) == {"text": "blank", "colour": "unknown_field"}
        answer = carol.ask("POST", path, {"text": " ", "attachment": {"actual": 1}})
        assert "text" not in faults(problem(answer, 422, "invalid"))

    def test_queries(self, carol: Person, problem: Problem) -> None:
        post = carol.post_photo()
        for path, told in (
            ("/v1/feed?limit=0&cursor=x", {"limit": "invalid", "cursor": "malformed"}),
            ("/v1/feed?cursor=x&colour=red", {"cursor": "malformed", "colour": "unknown_field"}),
            (
                f"/v1/posts/{post['id']}/reactions?emoji=x&cursor=x&limit=y",
                {"emoji": "not_an_emoji", "cursor": "malformed", "limit": "wrong_type"},
            ),
            (f"/v1/posts/{post['id']}/reactions?emoji=x&cursor=x", {"emoji": "not_an_emoji", "cursor": "malformed"}),
        ):
            assert faults(problem(carol.ask("GET", path), 422, "invalid")) == told, path

    def test_an_idempotency_key_and_a_body(self, visitor: Visitor, problem: Problem) -> None:
        answer = visitor.ask("POST", "/v1/signup", {"email": "x"}, idempotency_key="k" * 256)
        assert faults(problem(answer, 422, "invalid")) == {"Idempotency-Key": "malformed", "email": "invalid_email"}


class TestMediaTypes:
    @pytest.mark.parametrize("kind", ["text/plain", "application/xml", "application/json; charset=utf-16", "", "x"])
    def test_a_body_of_another_type(self, visitor: Visitor, problem: Problem, kind: str) -> None:
        problem(visitor.ask("POST", "/v1/signup", b"{}", content_type=kind), 415, "unsupported_media_type")

    @pytest.mark.parametrize("accept", ["text/html", "image/*", "application/json;q=0", "x" * 5000])
    def test_an_answer_of_another_type(self, visitor: Visitor, problem: Problem, accept: str) -> None:
        problem(visitor.ask("GET", "/v1/feed", accept=accept), 406, "not_acceptable")

    @pytest.mark.parametrize(
        ("accept", "kind"),
        [
            ("application/msgpack", "application/msgpack"),
            ("application/vnd.msgpack", "application/vnd.msgpack"),
            ("APPLICATION/MSGPACK;q=0.9, application/json;q=0.1", "application/msgpack"),
            ("application/vnd.msgpack;q=0.1, application/msgpack", "application/msgpack"),
            ("application/json, application/msgpack", "application/json"),
            ("text/html, */*;q=0.1", "application/json"),
        ],
    )
    def test_an_answer_is_of_the_type_that_was_asked_for(self, carol: Person, accept: str, kind: str) -> None:
        expected = carol.get("/v1/me")
        for method, path in (("GET", "/v1/me"), ("GET", "/v1/nothing"), ("POST", "/v1/live/tickets")):
            answer = carol.ask(method, path, accept=accept)
            body = answer.json() if kind == "application/json" else msgpack.unpackb(answer.content)
            if answer.is_success:
                assert answer.headers["content-type"] == kind
                assert body == expected or "ticket" in body
            else:
                problem_kind = "application/problem+json" if kind == "application/json" else kind
                assert (answer.headers["content-type"], body["code"]) == (problem_kind, "no_such_path")

    def test_problems_come_in_messagepack_too(self, stack: Stack, problem: Problem) -> None:
        answer = Visitor(stack.api, format="msgpack").ask("GET", "/v1/feed")
        assert answer.headers["content-type"] == MSGPACK
        problem(answer, 401, "not_signed_in")


class TestPathsAndQueries:
    @pytest.mark.parametrize(
        "path", ["/", "/v1", "/v1/nothing", "/v1/posts/", "/v1//posts", "/v1/posts/%00", "/%ff", "/..%2f", "/v1/feed/"]
    )
    def test_no_such_path(self, visitor: Visitor, path: str) -> None:
        answer = visitor.ask("GET", path)
        assert answer.status_code in (404, 405)
        assert answer.headers["content-type"] == "application/problem+json"

    def test_another_method(self, visitor: Visitor, problem: Problem) -> None:
        answer = visitor.ask("POST", "/v1/feed")
        problem(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
        # What HTTP doesn't know never gets past its parser.
        unknown = visitor.ask("BREW", "/v1/feed")
        problem(unknown, 400, "unreadable_request")
        assert unknown.headers["x-content-type-options"] == "nosniff"

    @pytest.mark.parametrize("method", ["TRACE", "PROPFIND", "LINK"])
    def test_a_method_that_no_endpoint_has(self, visitor: Visitor, problem: Problem, method: str) -> None:
        answer = visitor.ask(method, "/v1/feed", x_request_id="of-a-method.1")
        assert problem(answer, 405, "method_not_allowed")["instance"] == "urn:request:of-a-method.1"
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
        assert answer.headers["x-content-type-options"] == "nosniff"
        problem(visitor.ask(method, "/v1/nothing"), 404, "no_such_path")
        problem(visitor.ask(method, "/healthz"), 405, "method_not_allowed")

    @pytest.mark.parametrize("path", ["/robots.txt", "/favicon.ico"])
    def test_what_browsers_and_crawlers_ask_unasked(self, visitor: Visitor, problem: Problem, path: str) -> None:
        problem(visitor.ask("GET", path), 404, "no_such_path")

    @pytest.mark.parametrize(
        "request_line",
        [b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x00" * 4096, b"G" * 100_000],
    )
    def test_what_is_no_http(self, stack: Stack, visitor: Visitor, request_line: bytes) -> None:
        where = urlsplit(stack.api)
        with socket.create_connection((where.hostname, where.port), timeout=10) as connection:
            connection.sendall(request_line + b"\r\n\r\n")
            said = connection.recv(1000)
        assert said == b"" or (said.startswith(b"HTTP/1.1 400") and b'"code":"unreadable_request"' in said)
        assert visitor.ask("GET", "/healthz").status_code == 200

    @pytest.mark.parametrize("post_id", [UNKNOWN_ID, "x", "0" * 12, "Z" * 13, "z" * 13, "%F0%9F%98%80", "1" * 5000])
    def test_an_unknown_id(self, carol: Person, post_id: str) -> None:
        for method in ("GET", "DELETE"):
            answer = carol.ask(method, f"/v1/posts/{post_id}")
            assert answer.status_code == 404
            assert answer.json()["code"] in ("not_found", "post_not_found")

    @pytest.mark.parametrize("username", ["no_such_user", "a", "x" * 31, "%00%00%00", "a%20b", "ünïcode", "..."])
    def test_an_unknown_username(self, carol: Person, problem: Problem, username: str) -> None:
        for method, tail in (("GET", ""), ("GET", "/posts"), ("PUT", "/follow"), ("DELETE", "/follow")):
            problem(carol.ask(method, f"/v1/users/{username}{tail}"), 404, "user_not_found")

    def test_query_parameters(self, carol: Person, problem: Problem) -> None:
        answer = carol.ask("GET", "/v1/feed?limit=0&cursor=%00&colour=red")
        assert faults(problem(answer, 422, "invalid")) == {
            "limit": "invalid",
            "cursor": "nul_character",
            "colour": "unknown_field",
        }
        no_numbers = ("x", "", "1.5", "10.0", "1e1", "%2B10", "+10", "10%20", "1_0", "0x1", "%D9%A1", "true", "null")
        for text in (*no_numbers, "101", "-1", "9" * 20, "9" * 5000, "1&limit=2"):
            answer = carol.ask("GET", f"/v1/feed?limit={text}")
            assert faults(problem(answer, 422, "invalid")).keys() == {"limit"}, text
        answer = carol.ask("GET", "/v1/me?verbose=1")
        assert faults(problem(answer, 422, "invalid")) == {"verbose": "unknown_field"}

    @pytest.mark.parametrize(
        "cursor", ["x", "!!!!", "AAAA", "é", "f" * 5000, "Zg", "Zm9vYmFy", base64.b64encode(b"n" + b"0" * 13).decode()]
    )
    @pytest.mark.parametrize("path", ["/v1/feed", "/v1/notifications", "/v1/users/{me}/posts"])
    def test_a_malformed_cursor(self, carol: Person, problem: Problem, path: str, cursor: str) -> None:
        path = path.replace("{me}", carol.username)
        if path == "/v1/notifications" and cursor.startswith("bjAw"):
            pytest.skip("that is a cursor of this list")
        answer = carol.http.get(path, params={"cursor": cursor})
        assert faults(problem(answer, 422, "invalid")) == {"cursor": "malformed"}

    def test_headers(self, visitor: Visitor) -> None:
        for given in ("short", "x" * 65, "has spaces in it", "née-naïve-id"):
            answer = visitor.http.get("/v1/feed", headers={b"X-Request-Id": given.encode("latin-1")})
            assert answer.headers["x-request-id"] != given
        assert visitor.ask("GET", "/v1/feed", x_request_id="sane-id.42").headers["x-request-id"] == "sane-id.42"

    def test_a_query_of_very_many_parameters(self, carol: Person, problem: Problem) -> None:
        refused = problem(carol.ask("GET", "/v1/feed?" + "&".join(["a"] * 20_000)), 422, "invalid")
        assert faults(refused) == {"query": "too_many"}

    def test_what_is_wrong_is_told_only_to_who_may_ask(self, stack: Stack, visitor: Visitor, problem: Problem) -> None:
        gone = sign_up(stack)
        gone.post("/v1/logout")
        for ask in (gone.ask, visitor.ask):
            for method, path, body in (
                ("GET", "/v1/feed?cursor=none", None),
                ("POST", "/v1/posts", {"type": "none"}),
                ("PUT", "/v1/users/!/follow", None),
            ):
                assert ask(method, path, body).status_code == 401, (method, path)

    def test_what_is_wrong_counts_against_the_allowance(self, carol: Person, problem: Problem) -> None:
        for answer in (carol.ask("GET", "/v1/feed?limit=0"), carol.ask("POST", "/v1/posts", {})):
            problem(answer, 422, "invalid")
            assert "ratelimit" in answer.headers


class TestTokens:
    def test_tokens_that_are_not_ours(self, stack: Stack, carol: Person, visitor: Visitor, problem: Problem) -> None:
        good = carol.session["access_token"]
        head, payload, signature = good.split(".")
        claims: dict[str, Any] = jwt.decode(good, options={"verify_signature": False})
        kid, key = next(iter(settings().token_keys.items()))

        def signed(with_key: Any = key, algorithm: str = "HS256", kid: str | None = kid, **changed: Any) -> str:
            fields = {"kid": kid} if kid else {}
            return jwt.encode(claims | changed, with_key, algorithm=algorithm, headers=fields)

        none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT","kid":"%b"}' % kid.encode()).rstrip(b"=").decode()
        other = base64.urlsafe_b64encode(json.dumps(claims | {"sub": UNKNOWN_ID}).encode()).rstrip(b"=").decode()
        forged = {
            "none": f"{none}.{payload}.",
            "payload changed": f"{head}.{other}.{signature}",
            "signature cut": f"{head}.{payload}.{signature[:-4]}",
            "foreign key": signed(b"k" * 32),
            "other algorithm": signed(key + key, algorithm="HS512"),
            "unknown kid": signed(kid="other"),
            "no kid": signed(kid=None),
            "other audience": signed(aud="elsewhere"),
            "no session": jwt.encode(
                {k: v for k, v in claims.items() if k != "sid"}, key, algorithm="HS256", headers={"kid": kid}
            ),
            "subject no id": signed(sub="me"),
            "garbage": "a.b.c",
            "empty parts": "..",
            "long": "x" * 6000,
        }
        for what, token in forged.items():
            answer = visitor.ask("GET", "/v1/me", authorization=f"Bearer {token}")
            assert answer.status_code == 401, what
            problem(answer, 401, "invalid_token")
            assert answer.headers["www-authenticate"].startswith("Bearer")
        problem(
            visitor.ask("GET", "/v1/me", authorization=f"Bearer {signed(exp=int(time.time()) - 1)}"),
            401,
            "token_expired",
        )
        for value in ("Basic eDp5", "Bearer", "", good):
            problem(visitor.ask("GET", "/v1/me", authorization=value), 401, "invalid_token")
        assert visitor.ask("GET", "/v1/me", authorization=f"Bearer {signed()}").status_code == 200

    def test_a_bad_token_is_refused_where_visitors_may_read(
        self, carol: Person, visitor: Visitor, problem: Problem
    ) -> None:
        path = f"/v1/users/{carol.username}"
        assert visitor.ask("GET", path).status_code == 200
        problem(visitor.ask("GET", path, authorization="Bearer x.y.z"), 401, "invalid_token")

    @pytest.mark.parametrize("value", ["x", "AAAA", "a" * 5000, "é", '"', "a b"])
    def test_a_cookie_that_is_not_ours(self, visitor: Visitor, value: str) -> None:
        answer = visitor.http.get("/v1/me", headers={b"Cookie": f"session={value}".encode("latin-1")})
        assert answer.status_code == 401

    def test_someone_elses_key_of_the_cookie(self, carol: Person, visitor: Visitor, problem: Problem) -> None:
        # An access token put into the cookie as it is, not sealed.
        answer = visitor.ask("GET", "/v1/me", cookie=f"session={carol.session['access_token']}")
        problem(answer, 401, "invalid_cookie")

    def test_an_old_cookie_hides_nothing_from_a_visitor(self, carol: Person, visitor: Visitor) -> None:
        path = f"/v1/users/{carol.username}"
        assert visitor.ask("GET", path, cookie="session=none").json()["viewer"] is None
        assert visitor.ask("GET", "/v1/me", cookie="session=none").status_code == 401


class TestSignup:
    def test_a_replayed_code(self, stack: Stack, visitor: Visitor, problem: Problem) -> None:
        email = f"replay{time.time_ns()}@example.com"
        token = visitor.post("/v1/signup", {"email": email})["signup_token"]
        proof = {"signup_token": token, "code": Mailbox(stack.console, email).code()}
        fresh = visitor.post("/v1/signup/verify", proof)["signup_token"]
        answer = visitor.ask("POST", "/v1/signup/verify", proof)
        assert faults(problem(answer, 422, "invalid")) == {"signup_token": "invalid_token"}
        account = {"signup_token": fresh, "username": f"r{time.time_ns()}"[:20], "name": "R", "password": PASSWORD}
        visitor.post("/v1/signup/complete", account)
        answer = visitor.ask("POST", "/v1/signup/complete", account | {"username": f"s{time.time_ns()}"[:20]})
        assert faults(problem(answer, 422, "invalid")) == {"signup_token": "invalid_token"}

    def test_a_token_dies_with_the_fifth_wrong_code(self, stack: Stack, visitor: Visitor, problem: Problem) -> None:
        email = f"wrong{time.time_ns()}@example.com"
        token = visitor.post("/v1/signup", {"email": email})["signup_token"]
        code = Mailbox(stack.console, email).code()
        wrong = f"{(int(code) + 1) % 1_000_000:06d}"
        for _ in range(5):
            answer = visitor.ask("POST", "/v1/signup/verify", {"signup_token": token, "code": wrong})
            assert set(faults(problem(answer, 422, "invalid")).values()) == {"wrong_code"}
        answer = visitor.ask("POST", "/v1/signup/verify", {"signup_token": token, "code": code})
        assert faults(problem(answer, 422, "invalid")) == {"signup_token": "invalid_token"}

    def test_an_unproven_token_makes_no_account(self, visitor: Visitor, problem: Problem) -> None:
        token = visitor.post("/v1/signup", {"email": f"skip{time.time_ns()}@example.com"})["signup_token"]
        account = {"signup_token": token, "username": f"u{time.time_ns()}"[:20], "name": "U", "password": PASSWORD}
        answer = visitor.ask("POST", "/v1/signup/complete", account)
        assert faults(problem(answer, 422, "invalid")) == {"signup_token": "invalid_token"}

    @pytest.mark.parametrize(
        "email",
        [
            "",
            "x",
            "@",
            "a@b",
            "a b@example.com",
            "a@@example.com",
            "a@example..com",
            "x" * 250 + "@e.com",
            "a@b\r\nBcc: c@d.e",
        ],
    )
    def test_what_is_no_address(self, visitor: Visitor, problem: Problem, email: str) -> None:
        assert faults(problem(visitor.ask("POST", "/v1/signup", {"email": email}), 422, "invalid")).keys() == {"email"}


class TestUploads:
    def post_of(self, person: Person, actual: str, placeholder: str) -> httpx.Response:
        media = [{"actual": actual, "placeholder": placeholder, "width": 10, "height": 10}]
        return person.ask("POST", "/v1/posts", {"type": "photo:square", "media": media, "description": ""})

    def test_objects_that_cannot_be_attached(self, stack: Stack, carol: Person, problem: Problem) -> None:
        stranger = sign_up(stack)
        foreign = stranger.upload_photo()
        files = [{"variant": v, "content_type": "image/jpeg", "size": len(JPEG)} for v in ("actual", "placeholder")]
        missing = [one["object"] for one in carol.post("/v1/uploads", {"purpose": "post", "files": files})["uploads"]]
        clip, still = carol.upload([("actual", "video/mp4", b"\0" * 2048), ("placeholder", "image/jpeg", JPEG)])
        picture = carol.upload([("small", "image/jpeg", JPEG), ("large", "image/jpeg", JPEG)], "profile_picture")
        own = carol.upload_photo()
        count = carol.get("/v1/me")["counts"]["posts"]
        for (actual, placeholder), (first, second) in {
            (foreign["actual"], foreign["placeholder"]): ("not_found", "not_found"),
            ("no/such/object.jpg", "../../etc/passwd"): ("not_found", "not_found"),
            (missing[0], missing[1]): ("not_uploaded", "not_uploaded"),
            (clip, still): ("wrong_content_type", ""),
            (picture[0], picture[1]): ("wrong_purpose", "wrong_purpose"),
            (own["placeholder"], own["actual"]): ("wrong_purpose", "wrong_purpose"),
            (own["actual"], own["actual"]): ("", "already_attached"),
        }.items():
            found = faults(problem(self.post_of(carol, actual, placeholder), 422, "invalid"))
            expected = {"media[0].actual": first, "media[0].placeholder": second}
            assert found == {field: code for field, code in expected.items() if code}
        assert carol.get("/v1/me")["counts"]["posts"] == count
        assert self.post_of(carol, own["actual"], own["placeholder"]).status_code == 201
        found = faults(problem(self.post_of(carol, own["actual"], own["placeholder"]), 422, "invalid"))
        assert set(found.values()) == {"already_attached"}

    def test_storage_takes_only_what_was_authorised(self, carol: Person) -> None:
        files = [{"variant": "actual", "content_type": "image/jpeg", "size": len(JPEG)}]
        (upload,) = carol.post("/v1/uploads", {"purpose": "post", "files": files})["uploads"]
        assert send(upload, JPEG + b"x").status_code == 400
        assert send(upload | {"headers": upload["headers"] | {"Content-Type": "text/html"}}, JPEG).status_code == 403
        assert send(upload | {"url": upload["url"].replace("Signature=", "Signature=00")}, JPEG).status_code == 403
        assert send(upload, JPEG).status_code == 200

    @pytest.mark.parametrize(
        ("file", "fields"),
        [
            ({"variant": "actual", "content_type": "image/gif", "size": 5000}, {"files[0].content_type"}),
            ({"variant": "actual", "content_type": "image/jpeg", "size": 1023}, {"files[0].size"}),
            ({"variant": "actual", "content_type": "image/jpeg", "size": 10 * 2**20 + 1}, {"files[0].size"}),
            ({"variant": "placeholder", "content_type": "image/jpeg", "size": 300 * 2**10 + 1}, {"files[0].size"}),
            ({"variant": "small", "content_type": "image/jpeg", "size": 5000}, {"files[0].variant"}),
            ({"variant": "actual", "content_type": "image/jpeg\r\nx: y", "size": 5000}, {"files[0].content_type"}),
        ],
    )
    def test_files_that_are_not_allowed(self, carol: Person, problem: Problem, file: Any, fields: set[str]) -> None:
        answer = carol.ask("POST", "/v1/uploads", {"purpose": "post", "files": [file]})
        assert faults(problem(answer, 422, "invalid")).keys() == fields

    def test_a_reel_of_two_and_posts_of_none_and_eleven(self, carol: Person, problem: Problem) -> None:
        medium = {"actual": "a", "placeholder": "b", "width": 1, "height": 1}
        for type, media in (("reel", [medium] * 2), ("photo:square", []), ("photo:square", [medium] * 11)):
            answer = carol.ask("POST", "/v1/posts", {"type": type, "media": media, "description": ""})
            assert faults(problem(answer, 422, "invalid")).keys() == {"media"}

    def test_a_description_too_long(self, carol: Person, problem: Problem) -> None:
        body = {"type": "photo:square", "media": [carol.upload_photo()], "description": "é" * 2201}
        assert faults(problem(carol.ask("POST", "/v1/posts", body), 422, "invalid")).keys() == {"description"}
        assert carol.ask("POST", "/v1/posts", body | {"description": "é" * 2200}).status_code == 201


class TestFollows:
    def test_following_yourself(self, alice: Person, problem: Problem) -> None:
        answer = alice.ask("PUT", f"/v1/users/{alice.username.upper()}/follow")
        assert faults(problem(answer, 422, "invalid")) == {"username": "yourself"}
        assert alice.get("/v1/me")["counts"] == {"posts": 0, "followers": 0, "following": 0}

    def test_following_and_unfollowing_twice(self, alice: Person, bob: Person) -> None:
        first, second = alice.follow(bob.username), alice.follow(bob.username)
        assert first == second
        assert first["counts"]["followers"] == 1
        first, second = (alice.delete(f"/v1/users/{bob.username}/follow") for _ in range(2))
        assert first == second
        assert first["counts"]["followers"] == 0


@pytest.mark.parametrize("path", ["/v1/posts/%0A", "/v1/posts/%0D%0Ax"])
def test_what_a_line_break_is_in_names_nothing(visitor: Visitor, problem: Problem, path: str) -> None:
    problem(visitor.ask("GET", path), 404, "post_not_found")
