"""What is due by the clock is published once, however many relays there are, and then not before it is due again."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.kernel import clock, db, upkeep
from shared.media.model import OrphansDue
from tests.relay.broker import Pubsub
from tests.relay.conftest import Relays
from tests.relay.test_relay import Found, left
from tests.servers import eventually

HOUR_MS = 3_600_000
# These tests know what they wait for.
pytestmark = pytest.mark.filterwarnings("ignore:The return_immediately flag")
SCHEDULE = db.Statement("INSERT INTO schedules (topic, every_ms, next_at) VALUES (:topic, :every, :at)")
DUE = db.Statement("UPDATE schedules SET next_at = :at")
LATER = db.Statement("INSERT INTO outbox (topic, payload, created_at, due_at) VALUES (:topic, :payload, :now, :due)")
NEXT = db.Statement("SELECT min(next_at) FROM schedules", Found)


@pytest.mark.usefixtures("servers")
def test_many_relays_at_once_emit_it_once() -> None:
    began = clock.now_ms()
    assert upkeep.emit_due() == 0  # the first time is an hour after the migration
    with db.connection() as conn:
        DUE.run(conn, at=began - 10 * HOUR_MS)
    with ThreadPoolExecutor(8) as threads:
        emitted = list(threads.map(lambda _: upkeep.emit_due(), range(16)))
    assert sum(emitted) == 2
    assert left(OrphansDue.topic) == left(upkeep.UpkeepDue.topic) == 1
    with db.connection() as conn:
        assert began + HOUR_MS <= NEXT.one(conn).n <= clock.now_ms() + HOUR_MS


def test_a_relay_publishes_what_is_due(pubsub: Pubsub, relay: Relays) -> None:
    due = clock.now_ms()
    with db.connection() as conn:
        SCHEDULE.run(conn, topic=pubsub.topic, every=HOUR_MS, at=due)
    relay()
    relay()
    messages = []
    eventually(lambda: bool(messages.extend(pubsub.pull()) or messages))
    assert [message.attributes["type"] for message in messages] == [pubsub.topic]
    assert json.loads(messages[0].data)["at"] >= due
    eventually(lambda: left(pubsub.topic) == 0)
    assert pubsub.pull() == []


def test_an_event_due_later_waits_and_holds_up_none(pubsub: Pubsub, relay: Relays) -> None:
    now = clock.now_ms()
    with db.connection() as conn:
        for delay in (2500, 0):
            LATER.run(conn, topic=pubsub.topic, payload=b'{"delay": %d}' % delay, now=now, due=now + delay)
    relay()
    came: list[tuple[int, int]] = []

    def pulled() -> int:
        came.extend((json.loads(message.data)["delay"], clock.now_ms()) for message in pubsub.pull())
        return len(came)

    eventually(lambda: pulled() == 2)
    assert [delay for delay, _ in came] == [0, 2500]
    assert came[0][1] < now + 2500 <= came[1][1]
