"""Who watches."""

from collections.abc import Iterator

import pytest

from infra.local.stack import Stack
from tests.client import Person, sign_up


@pytest.fixture
def fan(alice: Person, stack: Stack) -> Iterator[Person]:
    """Somebody whom alice follows: who may see when she is here."""
    found = sign_up(stack)
    alice.follow(found.username)
    yield found
    found.close()
