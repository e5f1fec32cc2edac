"""kill -9 of each part while an account is erased: it is erased all the same, and the receipt is right."""

from collections.abc import Iterator

import pytest

from infra.local.stack import Stack, ephemeral
from shared.kernel import db
from shared.profiles import reads as profiles
from tests.accounts.receipts import LEFT, RECEIPT, Receipt
from tests.client import PASSWORD, Mailbox, Person, processes, sign_up, wait_until
from tests.servers import using

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

VICTIMS = ("background", "postgres", "relay", "pubsub", "valkey", "storage", "graph")
POSTS = 8
PATIENCE_SECONDS = 90.0


@pytest.fixture(scope="module", name="doomed")
def _doomed() -> Iterator[Stack]:
    """A stack of its own: others' tests don't stand on what is killed here."""
    with ephemeral() as stack, using(stack.env):
        yield stack


@pytest.fixture(scope="module", name="fans")
def _fans(doomed: Stack) -> list[Person]:
    return [sign_up(doomed) for _ in range(4)]


def over(user_id: int) -> Receipt | None:
    """The receipt once all is erased and told."""
    try:
        with db.connection() as conn:
            found = RECEIPT.maybe(conn, user_id=user_id)
    except db.DatabaseUnavailable:
        return None
    return found if found and found.ended_at and found.email is None else None


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_kill_while_an_account_is_erased(doomed: Stack, fans: list[Person], victim: str) -> None:
    leaver = sign_up(doomed)
    user_id = profiles.named([leaver.username])[leaver.username]
    for fan in fans:
        fan.follow(leaver.username)
        leaver.follow(fan.username)
    for number in range(POSTS):
        leaver.post_photo(str(number), seed=number)
    pid = doomed.reread().pids[victim]

    assert leaver.ask("DELETE", "/v1/me", {"password": PASSWORD}).status_code == 204
    for process in processes(doomed, victim):
        process.kill()

    found = wait_until(lambda: over(user_id), PATIENCE_SECONDS)
    assert found
    assert found.counts == found.counts | {"posts": POSTS, "following": 4, "followers": 4, "profile": 1, "sessions": 1}
    wait_until(lambda: doomed.reread().pids[victim] != pid, PATIENCE_SECONDS)
    with db.connection() as conn:
        # Uploads of just now wait for the sweep.
        left = LEFT.one(conn, user_id=user_id, email=leaver.email, scope=f"user:{user_id}").count
    assert left == 2 * POSTS
    for fan in fans:
        wait_until(lambda fan=fan: counts(fan) == {"posts": 0, "followers": 0, "following": 0}, PATIENCE_SECONDS)
    farewells = [one for one in Mailbox(doomed.console, leaver.email).mails() if "erased" in one["subject"]]
    assert len(farewells) == 1


def counts(person: Person) -> dict[str, int] | None:
    answer = person.ask("GET", "/v1/me")
    return answer.json()["counts"] if answer.status_code == 200 else None
