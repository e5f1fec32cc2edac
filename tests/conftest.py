"""One stack a run: every part real, started by `./dev up --ephemeral`, or the one that STACK names."""

import os
from collections.abc import Callable, Iterator

import httpx
import pytest

from infra.local import stack as stacks
from infra.local.stack import Stack
from tests.client import Person, sign_up


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
    with httpx.Client(base_url=stack.api, timeout=30) as client:
        yield client


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
