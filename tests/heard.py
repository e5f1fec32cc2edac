"""Waiting for all that was done to be heard, and what that led to."""

import httpx
import msgspec

from infra.local.stack import Stack
from shared.kernel import db
from tests.client import TLS, wait_until


class CountRow(msgspec.Struct, frozen=True):
    count: int


OUTBOX = db.Statement("SELECT count(*) FROM outbox", CountRow)
# Events go from the outbox to the broker, and those they lead to back: looked at once, one may be missed on its way.
TIMES = 3


def wait_until_heard(stack: Stack) -> None:
    """Until no event waits to be published or handled: nothing more comes of what was done before."""
    wait_until(lambda: all(nothing_waits(stack) for _ in range(TIMES)))


def nothing_waits(stack: Stack) -> bool:
    with db.connection() as conn:
        unpublished = OUTBOX.one(conn).count
    broker = httpx.get(f"{stack.env['PUBSUB_HTTP_URL']}/healthz", trust_env=False, verify=TLS).raise_for_status().json()
    return unpublished == broker["waiting"] == 0
