"""One stack a run: every part real, started by `./dev up --ephemeral`, or the one whose stack.json STACK names.

Tests run one after another in one process: they share the stack, and each makes people of its own on it.
"""

import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from infra.local import stack as stacks
from infra.local.stack import Stack
from tests.client import MSGPACK, Person, Visitor, decoded, sign_up

# Somebody is away sooner than elsewhere: there are tests that wait for it.
os.environ.setdefault("LIVE_AWAY_SECONDS", "5")


# What looks through all there is, over and over, comes while that is little; what looks at all that is left, last.
PLACES = {"test_verify.py": -1, "test_after_all.py": 1}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests in order."""
    items.sort(key=lambda item: PLACES.get(item.path.name, 0))


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The running stack; its settings are those of the test process too."""
    given = os.environ.get("STACK")
    if given:
        running = stacks.load(given)
        running.apply()
        yield running
        return
    with stacks.ephemeral() as running:
        running.apply()
        yield running


@pytest.fixture
def api(stack: Stack) -> Iterator[httpx.Client]:
    """A client that nobody is signed in with."""
    with httpx.Client(base_url=stack.api, timeout=30, trust_env=False) as client:
        yield client


@pytest.fixture
def visitor(stack: Stack) -> Visitor:
    """Someone who has not signed in."""
    return Visitor(stack.api)


@pytest.fixture
def person(stack: Stack) -> Callable[[], Person]:
    """Makes new people."""
    return lambda: sign_up(stack)


@pytest.fixture
def alice(stack: Stack) -> Person:
    """Somebody new."""
    return sign_up(stack)


@pytest.fixture
def bob(stack: Stack) -> Person:
    """Somebody else."""
    return sign_up(stack)


@pytest.fixture(scope="session")
def problem() -> Callable[..., dict[str, Any]]:
    """The problem document in an answer: `problem(answer, 422, "invalid")`, held to RFC 9457 and the contract."""
    return _problem


def _problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    body = decoded(answer)
    assert (answer.status_code, body["code"]) == (status, code), body
    assert answer.headers["content-type"] in ("application/problem+json", MSGPACK)
    assert body.keys() >= {"type", "title", "status", "detail", "instance", "code"}
    assert body["status"] == answer.status_code
    assert re.fullmatch(r"[a-z][a-z0-9_]*", body["code"])
    assert body["instance"] == f"urn:request:{answer.headers['x-request-id']}"
    assert b"Traceback" not in answer.content
    for fault in body.get("errors", []):
        assert fault.keys() == {"field", "code", "detail"}
    assert (status == 422) == bool(body.get("errors"))
    if status in (429, 503):
        assert body["retry_after"] == int(answer.headers["retry-after"]) >= 1
    return body
