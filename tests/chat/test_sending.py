"""Sending: once however often it is sent, in one order for both, and only to those whom one may write to."""

import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.leaks import plant
from infra.local.ports import free_port
from infra.local.stack import ROOT, Stack
from tests.chat.talk import chats, friends, history, text, words_of, write
from tests.client import Person, Visitor, sign_up, trips, wait_until

Problem = Callable[[httpx.Response, int, str], dict[str, Any]]
NOWHERE = "0" * 13


def faults(problem: dict[str, Any]) -> dict[str, str]:
    return {fault["field"]: fault["code"] for fault in problem["errors"]}


def send(person: Person | Visitor, to: Person | str, **body: Any) -> httpx.Response:
    name = to if isinstance(to, str) else to.username
    message: dict[str, Any] = {"client_id": secrets.token_hex(8), "content": text("Hm")} | body
    return person.ask("POST", f"/v1/chats/{name}/messages", message)


@pytest.fixture
def second(stack: Stack) -> Iterator[str]:
    """Another instance of the API."""
    port = free_port()
    framework = Path(sys.executable).with_name("functions-framework")
    command = [str(framework), "--source", "main.py", "--target", "api", "--asgi", "--host", "127.0.0.1"]
    with subprocess.Popen([*command, "--port", str(port)], cwd=ROOT, env=stack.env) as process:
        try:
            wait_until(lambda: answers(port), 30)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(15)


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).is_success
    except httpx.TransportError:
        return False


def test_what_is_sent_twice_is_one_message(alice: Person, bob: Person) -> None:
    friends(alice, bob)
    first = write(alice, bob, "Once", client_id="one")
    write(alice, bob, "More")
    assert write(alice, bob, "Something else", client_id="one") == first
    assert words_of(history(bob, alice)) == ["More", "Once"]
    # It is the sender's own name for it, in this chat.
    assert write(bob, alice, "Mine", client_id="one")["id"] != first["id"]
    assert chats(bob)[0]["last_message"]["content"] == text("Mine")
    key = secrets.token_hex(8)
    body = {"client_id": "two", "content": text("Under a key")}
    path = f"/v1/chats/{bob.username}/messages"
    answers = [alice.ask("POST", path, body, idempotency_key=key) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
    assert words_of(history(bob, alice)) == ["Under a key", "Mine", "More", "Once"]


def test_what_arrives_at_once_on_two_instances_is_one_message(stack: Stack, second: str) -> None:
    """Also where it is the first of the chat."""
    with ThreadPoolExecutor(8) as threads:
        for _ in range(4):
            alice, bob = sign_up(stack), sign_up(stack)
            elsewhere = Visitor(second, token=alice.session["access_token"])
            for number in range(4):
                body = {"client_id": str(number), "content": text(str(number))}
                sent = list(threads.map(partial(send, to=bob, **body), [alice, elsewhere] * 4))
                assert {answer.status_code for answer in sent} == {201}, [answer.text for answer in sent]
                assert len({answer.json()["id"] for answer in sent}) == 1
            assert words_of(history(bob, alice)) == ["3", "2", "1", "0"]


def test_both_see_one_order_whoever_sends_when(alice: Person, bob: Person) -> None:
    friends(alice, bob)
    with ThreadPoolExecutor(8) as threads:
        pairs = [(alice, bob), (bob, alice)] * 20
        sent = list(threads.map(lambda pair: write(pair[0], pair[1], "Hm"), pairs))
    seen = [[one["id"] for one in history(reader, other, 7)] for reader, other in ((alice, bob), (bob, alice))]
    assert seen[0] == seen[1] == sorted((one["id"] for one in sent), reverse=True)
    assert len(set(seen[0])) == 40


def test_who_writes_reads_their_own_words_at_once(alice: Person, bob: Person) -> None:
    for number in range(10):
        write(alice, bob, str(number))
        assert history(alice, bob)[0]["content"]["text"] == str(number)
        assert chats(alice)[0]["last_message"]["content"]["text"] == str(number)
        assert history(bob, alice)[0]["content"]["text"] == str(number)


def test_sending_is_one_trip_to_postgres_and_reading_is_none(alice: Person, bob: Person) -> None:
    friends(alice, bob)
    with bob.live() as his:
        first = write(alice, bob, "Warm")
        for body in ({"content": text("Hot")}, {"content": text("Hot too"), "reply_to": first["id"]}):
            answer = send(alice, bob, **body)
            assert (answer.status_code, trips(answer, "postgres"), trips(answer, "redis")) == (201, 1, 2)
        # What is told of them has dropped what was cached of them before.
        wait_until(lambda: len([one for one in his.drain() if one["event"] == "message.created"]) == 3)
    for path, most in ((f"/v1/chats/{alice.username}/messages", 1), ("/v1/chats", 2)):
        bob.get(path)
        answer = bob.ask("GET", path)
        assert (trips(answer, "postgres"), trips(answer, "redis")) == (0, most)


def test_nobody_writes_across_a_block_and_nobody_is_told_why(alice: Person, bob: Person, problem: Problem) -> None:
    friends(alice, bob)
    said = write(alice, bob, "Before")
    bob.put(f"/v1/users/{alice.username}/block")
    absent = problem(send(alice, "nobody_at_all"), 404, "user_not_found") | {"instance": ""}
    for one, other in ((alice, bob), (bob, alice)):
        assert problem(send(one, other), 404, "user_not_found") | {"instance": ""} == absent
        assert one.ask("GET", f"/v1/chats/{other.username}/messages").status_code == 404
        assert one.ask("PUT", f"/v1/chats/{other.username}/ack", {"read_up_to": said["id"]}).status_code == 404
        assert one.ask("PUT", f"/v1/messages/{said['id']}/reaction", {"emoji": "👍"}).status_code == 404
        for act, method in (("/accept", "PUT"), ("/decline", "PUT"), ("", "DELETE")):
            assert one.ask(method, f"/v1/chats/{other.username}{act}").status_code == 404
        assert chats(one) == []
        assert one.get("/v1/me")["unread"]["chats"] == 0
    assert alice.ask("PATCH", f"/v1/messages/{said['id']}", {"content": text("After")}).status_code == 404
    bob.delete(f"/v1/users/{alice.username}/block")
    assert words_of(history(bob, alice)) == ["Before"]
    assert [chat["unread_count"] for chat in chats(bob)] == [1]


@pytest.mark.parametrize("leave", ["suspend", "delete"])
def test_nobody_writes_to_somebody_who_is_gone(stack: Stack, alice: Person, bob: Person, leave: str) -> None:
    friends(alice, bob)
    write(alice, bob, "Before")
    write(bob, alice, "Yes?")
    assert len(chats(alice)) == 1
    if leave == "suspend":
        plant.suspend(stack, bob)
    else:
        plant.delete(bob)
    assert send(alice, bob).status_code == 404
    assert alice.ask("GET", f"/v1/chats/{bob.username}/messages").status_code == 404
    assert chats(alice) == []
    assert alice.get("/v1/me")["unread"]["chats"] == 0


def test_nobody_chats_with_themselves(alice: Person, problem: Problem) -> None:
    for method, path, body in (
        ("POST", "/messages", {"client_id": "x", "content": text("Me?")}),
        ("GET", "/messages", None),
        ("PUT", "/ack", {"read_up_to": NOWHERE}),
        ("PUT", "/accept", None),
        ("PUT", "/decline", None),
        ("DELETE", "", None),
    ):
        answer = alice.ask(method, f"/v1/chats/{alice.username}{path}", body)
        assert faults(problem(answer, 422, "invalid")) == {"username": "yourself"}


def test_replies_are_to_what_both_see_in_this_chat(
    alice: Person, bob: Person, person: Callable[[], Person], problem: Problem
) -> None:
    elsewhere = write(alice, person(), "Elsewhere")
    gone, hidden, there = (write(alice, bob, word) for word in ("Gone", "Hidden", "There"))
    alice.delete(f"/v1/messages/{gone['id']}?for=everyone")
    bob.delete(f"/v1/messages/{hidden['id']}?for=me")
    for reply_to in (elsewhere["id"], gone["id"], hidden["id"], NOWHERE, "no id at all"):
        assert faults(problem(send(bob, alice, reply_to=reply_to), 422, "invalid")) == {"reply_to": "not_found"}
    bob.delete(f"/v1/chats/{alice.username}")
    assert send(bob, alice, reply_to=there["id"]).status_code == 422
    assert send(alice, bob, reply_to=there["id"]).status_code == 201
    assert len(history(bob, alice)) == 1


@pytest.mark.parametrize(
    ("words", "excerpt"),
    [("Short", "Short"), ("x" * 100, "x" * 100), ("word " * 30, ("word " * 20).rstrip() + "…")],
)
def test_an_excerpt_is_the_beginning(alice: Person, bob: Person, words: str, excerpt: str) -> None:
    said = write(alice, bob, words)
    assert write(bob, alice, "Yes", reply_to=said)["reply_to"]["excerpt"] == excerpt


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, {"client_id": "missing", "content": "missing"}),
        ({"client_id": "", "content": {"type": "text"}, "x": 1},
         {"client_id": "invalid", "content.text": "missing", "x": "unknown_field"}),
        ({"client_id": "x" * 101, "content": text("\u200b \u3164")}, {"client_id": "invalid", "content.text": "blank"}),
        ({"client_id": "x", "content": text("x" * 4001)}, {"content.text": "wrong_length"}),
        ({"client_id": "x", "content": {"type": "song", "text": "x"}}, {"content": "invalid"}),
        ({"client_id": 1, "content": {"type": "photo", "actual": 7, "caption": "x" * 2201, "y": 1}},
         {"client_id": "wrong_type", "content.actual": "wrong_type", "content.placeholder": "missing",
          "content.caption": "invalid", "content.y": "unknown_field"}),
        ({"client_id": "x", "content": {"type": "voice", "object": "", "duration_ms": 0}},
         {"content.object": "invalid", "content.duration_ms": "invalid"}),
        ({"client_id": "x", "content": {"type": "file", "object": "x", "name": ""}}, {"content.name": "invalid"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_every_fault_is_named_and_nothing_is_sent(
    alice: Person, bob: Person, problem: Problem, format: Any, body: dict[str, Any], told: dict[str, str]
) -> None:
    answer = alice.speaking(format).ask("POST", f"/v1/chats/{bob.username}/messages", body)
    assert faults(problem(answer, 422, "invalid")) == told
    assert history(alice, bob) == chats(bob) == chats(bob, "requests") == []


def test_only_who_is_signed_in_chats(visitor: Visitor, alice: Person, problem: Problem) -> None:
    problem(visitor.ask("GET", "/v1/chats"), 401, "not_signed_in")
    problem(send(visitor, alice), 401, "not_signed_in")
    assert chats(alice, "requests") == []
