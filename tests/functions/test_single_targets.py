"""Any target runs alone under plain functions-framework, as it does in the cloud: five of them, one for events."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import main
from infra.local.ports import free_port
from infra.local.stack import Stack
from shared.kernel import cache
from shared.profiles import projection, reads
from tests.client import Person, sign_up, wait_until

ROOT = Path(main.__file__).parent
FRAMEWORK = Path(sys.executable).with_name("functions-framework")
NAMES = ("get_post", "get_profile", "follow", "request_signup", "project_users")
Problem = Callable[[httpx.Response, int, str], dict[str, Any]]


@contextmanager
def running(stack: Stack, target: str) -> Iterator[httpx.Client]:
    """A client of `target`, run alone, with the limits of production."""
    port = free_port()
    command = [str(FRAMEWORK), "--source", "main.py", "--target", target, "--asgi", "--host", "127.0.0.1"]
    with subprocess.Popen(
        [*command, "--port", str(port)], cwd=ROOT, env=stack.env | {"RATE_LIMIT_SCALE": "1"}
    ) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:
                yield client
        finally:
            process.terminate()
            process.wait(15)


@pytest.fixture(scope="module")
def targets(stack: Stack) -> Iterator[dict[str, httpx.Client]]:
    """A client of each of the five."""
    with ExitStack() as processes:
        clients = {name: processes.enter_context(running(stack, name)) for name in NAMES}
        for client in clients.values():
            wait_until(lambda client=client: answers(client), 30)
        yield clients


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def bearer(person: Person) -> dict[str, str]:
    return {"Authorization": f"Bearer {person.session['access_token']}"}


def test_get_post(targets: dict[str, httpx.Client], alice: Person, problem: Problem) -> None:
    post = alice.post_photo("Alone")
    path = f"/v1/posts/{post['id']}"
    assert targets["get_post"].get(path, headers=bearer(alice)).json() == post
    assert targets["get_post"].get(path).json() == post | {"viewer": None}
    problem(targets["get_post"].get(f"/v1/users/{alice.username}"), 404, "no_such_path")


def test_get_profile(targets: dict[str, httpx.Client], alice: Person) -> None:
    profile = targets["get_profile"].get(f"/v1/users/{alice.username}").json()
    assert profile["user"]["username"] == alice.username
    assert profile["viewer"] is None


def test_follow(targets: dict[str, httpx.Client], alice: Person, bob: Person, problem: Problem) -> None:
    path = f"/v1/users/{bob.username}/follow"
    problem(targets["follow"].put(path), 401, "not_signed_in")
    assert targets["follow"].put(path, headers=bearer(alice)).json()["viewer"]["following"] is True
    problem(targets["follow"].delete(path, headers=bearer(alice)), 405, "method_not_allowed")


def test_request_signup_is_limited(targets: dict[str, httpx.Client], stack: Stack, problem: Problem) -> None:
    answers = [targets["request_signup"].post("/v1/signup", json={"email": "x@example.org"}) for _ in range(12)]
    limited = [answer for answer in answers if answer.status_code == 429]
    assert limited
    assert limited[0].headers["ratelimit-policy"] == '"mail";q=10;w=60'
    problem(limited[0], 429, "too_many_requests")
    assert limited[0].headers["ratelimit"].startswith('"mail";r=0;t=')


def cloud_event(topic: str, function: str, payload: dict[str, Any]) -> tuple[dict[str, str], bytes]:
    """An event as Eventarc delivers it: a CloudEvent in binary mode."""
    fields = {
        "ce-id": "1",
        "ce-specversion": "1.0",
        "ce-type": "google.cloud.pubsub.topic.v1.messagePublished",
        "ce-source": f"//pubsub.googleapis.com/projects/p/topics/{topic}",
        "ce-time": "2026-11-24T00:00:00Z",
        "content-type": "application/json",
    }
    data = base64.b64encode(json.dumps(payload).encode()).decode()
    message = {"data": data, "attributes": {"type": topic, "event_id": "1"}, "messageId": "1"}
    body = {"message": message, "subscription": f"projects/p/subscriptions/{topic}--{function}"}
    return fields, json.dumps(body).encode()


def test_project_users_hears_events(targets: dict[str, httpx.Client], stack: Stack) -> None:
    someone = sign_up(stack)
    user_id = reads.named([someone.username])[someone.username]
    key = projection.card_key(user_id)
    cache.run_sync(("DEL", key))
    fields, body = cloud_event("user_changed", "project_users", {"user_id": user_id})
    client = targets["project_users"]
    assert client.post("/", headers=fields, content=body).is_success
    assert cache.run_sync(("GET", key)) != [None]
    for bad in (b"", b"{}", b"\xff", b'{"message":{"data":"!","attributes":{"type":"user_changed"}}}'):
        assert client.post("/", headers=fields, content=bad).status_code >= 400
        assert b"Traceback" not in client.post("/", headers=fields, content=bad).content
    assert client.post("/", headers=fields, content=body).is_success
