"""The client over HTTP: it asks again what may be asked again, nothing is done twice, and a refusal says all."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from infra.client import Client, Refused
from infra.local.stack import Stack
from shared.accounts.model import Me
from shared.comments.model import Comment
from shared.kernel import ids, tokens
from tests.client import PASSWORD, Format, Person
from tests.live.wire import Wire, wire_to


@pytest.fixture
def wire(stack: Stack) -> Iterator[Wire]:
    """A wire to the API."""
    with wire_to(stack.api) as there:
        yield there


def answer(status: str, retry_after: str = "", body: str = "<html>") -> bytes:
    """An answer of what stands before the API, as it comes over the wire."""
    wait = f"Retry-After: {retry_after}\r\n" if retry_after else ""
    return f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\n{wait}Content-Length: {len(body)}\r\n\r\n{body}".encode()


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_one_signs_in_and_reads_typed_answers_page_by_page(alice: Person, stack: Stack, format: Format) -> None:
    client = Client(stack.api, format=format).sign_in(alice.email, PASSWORD)
    me = client.get("/v1/me", into=Me)
    assert me.user.username == alice.username
    post = alice.post_photo("Talk")
    path = f"/v1/posts/{post['id']}/comments"
    said = [client.post(path, {"text": str(number)}, into=Comment) for number in range(5)]
    assert list(client.items(path, 2, into=Comment)) == said[::-1]
    assert client.delete(f"/v1/comments/{said[0].id}") is None


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_a_refusal_names_every_fault(alice: Person, stack: Stack, format: Format) -> None:
    client = Client(stack.api, format=format, tokens=alice.tokens)
    with pytest.raises(Refused, match=r"422 invalid.*emoji.*more") as refused:
        client.put(f"/v1/posts/{alice.post_photo()['id']}/reaction", {"emoji": 1, "more": 1})
    assert [(fault.field, fault.code) for fault in refused.value.errors] == [
        ("emoji", "wrong_type"),
        ("more", "unknown_field"),
    ]
    with pytest.raises(Refused) as refused:
        client.get("/v1/users/nobody_at_all")
    assert (refused.value.status, refused.value.code) == (404, "user_not_found")


def test_what_was_done_but_not_answered_is_not_done_again(alice: Person, wire: Wire) -> None:
    post = alice.post_photo("Once")
    client = Client(wire.url, tokens=alice.tokens)
    for number in range(3):
        wire.losing = 1
        said = client.post(f"/v1/posts/{post['id']}/comments", {"text": str(number)})
        assert wire.losing == 0
        assert next(alice.items(f"/v1/posts/{post['id']}/comments"))["id"] == said["id"]
    assert alice.get(f"/v1/posts/{post['id']}")["counts"]["comments"] == 3


def test_it_comes_back_when_it_is_told_to_unless_that_is_too_late(alice: Person, wire: Wire) -> None:
    client = Client(wire.url, tokens=alice.tokens)
    wire.instead.append(answer("503 Service Unavailable", "1"))
    wire.instead.append(answer("502 Bad Gateway"))
    wire.instead.append(answer("429 Too Many Requests", "1"))
    began = time.monotonic()
    assert client.get("/v1/me")["user"]["username"] == alice.username
    assert time.monotonic() - began >= 2
    wire.instead.append(answer("429 Too Many Requests", "3600"))
    with pytest.raises(Refused) as refused:
        client.get("/v1/me")
    assert (refused.value.status, refused.value.retry_after) == (429, 3600)
    wire.instead.append(answer("500 Internal Server Error"))
    with pytest.raises(Refused) as refused:
        client.get("/v1/me")
    assert (refused.value.status, refused.value.code) == (500, "no_problem_document")


def test_it_waits_for_one_that_is_away(alice: Person, wire: Wire) -> None:
    client = Client(wire.url, tokens=alice.tokens)
    with ThreadPoolExecutor(1) as threads:
        with wire.dead():
            asked = threads.submit(client.get, "/v1/me")
            time.sleep(0.5)
            assert not asked.done()
        assert asked.result()["user"]["username"] == alice.username


def test_many_threads_renew_the_tokens_once_also_if_the_answer_is_lost(
    alice: Person, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert alice.tokens is not None
    claims = tokens.verify_access(alice.session["access_token"])
    with monkeypatch.context() as earlier:
        earlier.setattr(tokens, "ACCESS_SECONDS", -1)
        stale, _ = tokens.issue_access(claims.user_id, ids.decode(alice.session["id"]))
    client = Client(wire.url, tokens=msgspec.structs.replace(alice.tokens, access_token=stale))
    asked: list[str] = []
    client.http.event_hooks["request"].append(lambda request: asked.append(request.url.path))
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: client.get("/v1/me")["user"]["username"], range(16)))
    assert set(found) == {alice.username}
    assert asked.count("/v1/session/refresh") == 1
    assert client.tokens is not None
    assert client.tokens.access_token != stale
    client.keep(msgspec.structs.replace(client.tokens, access_token=stale))
    wire.losing = 1
    client.refresh(stale)  # asks twice with one refresh token, which is good once
    assert wire.losing == 0
    assert client.get("/v1/me")["user"]["username"] == alice.username
