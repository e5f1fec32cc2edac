"""Logins are throttled per account and per address, also many at once, and say nothing of what accounts there are."""

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from infra.local.stack import Stack
from shared.accounts import sessions
from shared.accounts.model import Credentials
from shared.accounts.sessions import FORGOTTEN_MS, FREE_TRIES, free_tries_of_an_address
from shared.kernel import clock, db, tokens
from shared.kernel.endpoint import Client
from shared.kernel.problems import TooManyRequests, Unauthorized
from tests.client import PASSWORD, Person, Visitor, sign_up

HOUR_MS = 3_600_000
SAYS = {"bad_credentials": "wrong", "too_many_logins": "throttled"}
FAILED = db.Statement(
    """INSERT INTO login_failures (subject, failures, last_at) VALUES (:subject, :failures, :at)
       ON CONFLICT (subject) DO UPDATE SET failures = excluded.failures, last_at = excluded.last_at"""
)


@pytest.fixture
def client(stack: Stack) -> Client:
    """Somewhere nobody has come from yet."""
    return Client(f"2001:db8:{secrets.token_hex(2)}:{secrets.token_hex(2)}::", "test")


def failed(subject: str, failures: int, ago_ms: int) -> None:
    """So many logins have failed, the last one so long ago."""
    with db.connection() as conn:
        FAILED.run(conn, subject=subject, failures=failures, at=clock.now_ms() - ago_ms)


def account(login: str) -> str:
    return f"account:{tokens.digest(login).hex()}"


def attempt(login: str, client: Client, password: str = "not this one") -> str:
    """What a login says: "in", "wrong" or "throttled"."""
    try:
        sessions.login(Credentials(login, password), client)
    except (Unauthorized, TooManyRequests) as refused:
        return SAYS[refused.code]
    return "in"


def twenty_at_once(logins: list[str], client: Client) -> list[str]:
    with ThreadPoolExecutor(20) as threads:
        return sorted(threads.map(lambda n: attempt(logins[n % len(logins)], client), range(20)))


@pytest.mark.parametrize("there", [True, False])
def test_of_twenty_at_once_one_is_tried_where_one_may_be(alice: Person, client: Client, there: bool) -> None:
    login = alice.username if there else f"nobody{secrets.token_hex(4)}"
    # It has waited, and waits for minutes after the next failure.
    failed(account(login), FREE_TRIES + 8, HOUR_MS)
    assert twenty_at_once([login], client) == ["throttled"] * 19 + ["wrong"]
    assert attempt(login, client, PASSWORD) == "throttled"


def test_twenty_at_once_from_one_address_to_as_many_accounts(client: Client) -> None:
    failed(f"address:{client.address}", free_tries_of_an_address() + 8, HOUR_MS)
    logins = [f"nobody{secrets.token_hex(4)}" for _ in range(20)]
    assert twenty_at_once(logins, client) == ["throttled"] * 19 + ["wrong"]
    # The refused ones count for no account.
    elsewhere = Client(client.address + "1", "test")
    assert {attempt(login, elsewhere) for login in logins[:FREE_TRIES]} == {"wrong"}


def test_a_login_forgives_the_account_and_only_its_own_try_to_the_address(alice: Person, client: Client) -> None:
    failed(account(alice.username), FREE_TRIES - 1, 0)
    failed(f"address:{client.address}", free_tries_of_an_address() + 8, HOUR_MS)
    assert attempt(alice.username, client, PASSWORD) == "in"
    assert attempt(alice.username, client, PASSWORD) == "in"
    assert attempt(alice.username, client) == "wrong"
    assert attempt(alice.username, client, PASSWORD) == "throttled"
    elsewhere = Client(client.address + "1", "test")
    assert attempt(alice.username, elsewhere, PASSWORD) == "in"


def test_many_who_may_sign_in_at_once_from_one_address(stack: Stack, client: Client) -> None:
    people = [sign_up(stack) for _ in range(4)]
    # Four at once to each account: one less than it may be tried while none is judged yet.
    with ThreadPoolExecutor(16) as threads:
        said = threads.map(lambda n: [attempt(people[n % 4].username, client, PASSWORD) for _ in range(4)], range(16))
    assert list(said) == [["in"] * 4] * 16


def test_failures_are_forgotten_after_a_day(alice: Person, client: Client) -> None:
    failed(account(alice.username), 100 * free_tries_of_an_address(), FORGOTTEN_MS + 1)
    failed(f"address:{client.address}", 100 * free_tries_of_an_address(), FORGOTTEN_MS + 1)
    assert [attempt(alice.username, client) for _ in range(2)] == ["wrong", "wrong"]


def test_a_throttled_login_says_the_same_of_every_account(
    alice: Person, visitor: Visitor, problem: Callable[..., dict[str, Any]]
) -> None:
    said: list[Any] = []
    for login, password in ((alice.username, PASSWORD), (alice.email, "wrong"), ("nobody_here", "wrong")):
        failed(account(login), 1000, 0)
        answer = visitor.ask("POST", "/v1/login", {"login": login, "password": password})
        said.append(problem(answer, 429, "too_many_logins") | {"instance": ""})
        assert 0 < int(answer.headers["retry-after"]) <= sessions.LONGEST_WAIT_MS // 1000
    assert said[0] == said[1] == said[2]
