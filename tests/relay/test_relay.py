"""The relay: every event of the outbox is published, whatever dies when; what can't be holds up nothing else."""

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from realtime_service import relay as relays
from shared.kernel import cache, clock, db
from shared.kernel.events import nudge
from tests.relay.broker import Pubsub
from tests.relay.conftest import Relays
from tests.servers import Servers, eventually

pytestmark = pytest.mark.filterwarnings("ignore:The return_immediately flag")  # these tests know what they wait for


class Found(msgspec.Struct, frozen=True):
    n: int


PUT = db.Statement(
    """INSERT INTO outbox (topic, payload, trace, created_at)
       SELECT :topic, CAST(:payload AS bytea), :trace, :now FROM generate_series(1, CAST(:count AS int))
       RETURNING id""",
    Found,
)
LEFT = db.Statement("SELECT count(*) FROM outbox WHERE topic = :topic", Found)
# A relay that dies by itself between Pub/Sub's confirmation and its commit.
DIES_BEFORE_ITS_COMMIT = """
import os, signal
from realtime_service import relay
from shared.kernel.db import Connection
Connection.commit = lambda self: os.kill(os.getpid(), signal.SIGKILL)
relay.main()
"""


def put(topic: str, count: int, payload: bytes = b"{}", trace: str | None = None) -> set[str]:
    """Events in the outbox; answers their numbers."""
    with db.connection() as conn:
        rows = PUT.all(conn, topic=topic, payload=payload, trace=trace, now=clock.now_ms(), count=count)
    return {str(row.n) for row in rows}


def left(topic: str) -> int:
    with db.connection() as conn:
        return LEFT.one(conn, topic=topic).n


@contextmanager
def inside() -> Iterator[relays.Relay]:
    """A relay in a thread of this process."""
    one = relays.Relay()
    thread = threading.Thread(target=one.run)
    thread.start()
    try:
        yield one
    finally:
        one.stop()
        thread.join(15)
        assert not thread.is_alive()


def test_every_event_is_published_once_as_it_was_written(pubsub: Pubsub, relay: Relays):
    put(pubsub.topic, 1, payload=b'{"text": "\xc3\xa9"}', trace="trace-1")
    put(pubsub.topic, 1, payload=b"{}")
    relay()
    eventually(lambda: left(pubsub.topic) == 0)
    first, second = sorted(pubsub.pull(), key=lambda message: int(message.attributes["event_id"]))
    assert first.data == b'{"text": "\xc3\xa9"}'
    assert dict(first.attributes) == {
        "type": pubsub.topic,
        "event_id": first.attributes["event_id"],
        "trace": "trace-1",
    }
    assert "trace" not in second.attributes
    written = put(pubsub.topic, 3000)
    eventually(lambda: left(pubsub.topic) == 0)
    assert pubsub.published() == dict.fromkeys(written, 1)


def test_several_share_the_work(pubsub: Pubsub, relay: Relays):
    written = put(pubsub.topic, 6000)
    for _ in range(3):
        relay()
    eventually(lambda: left(pubsub.topic) == 0, 30)
    assert pubsub.published() == dict.fromkeys(written, 1)


def test_killed_again_and_again_it_loses_nothing(pubsub: Pubsub, relay: Relays):
    written: set[str] = set()
    for _ in range(5):
        written |= put(pubsub.topic, 1500)
        before = left(pubsub.topic)
        killed = relay()
        eventually(lambda before=before: left(pubsub.topic) < before, 30)
        killed.kill()
        killed.wait()
    relay()
    eventually(lambda: left(pubsub.topic) == 0, 30)
    assert pubsub.published().keys() == written


def test_killed_between_confirmation_and_commit_it_publishes_again(pubsub: Pubsub, relay: Relays):
    written = put(pubsub.topic, 10)
    assert relay(DIES_BEFORE_ITS_COMMIT).wait(30) == -signal.SIGKILL
    assert pubsub.published() == dict.fromkeys(written, 1)
    eventually(lambda: left(pubsub.topic) == 10)
    relay()
    eventually(lambda: left(pubsub.topic) == 0)
    assert pubsub.published() == dict.fromkeys(written, 2)


def test_a_topic_that_is_absent_holds_up_no_other(pubsub: Pubsub):
    put("not_yet_there", relays.BATCH + 100)
    written = put(pubsub.topic, 700)
    with inside():
        eventually(lambda: left(pubsub.topic) == 0)
        assert pubsub.published() == dict.fromkeys(written, 1), "nothing twice, though the first batch had both"
        assert left("not_yet_there") == relays.BATCH + 100
        pubsub.create_topic("not_yet_there")
        eventually(lambda: left("not_yet_there") == 0, 30)


def test_an_event_that_is_refused_holds_up_no_other(pubsub: Pubsub, caplog: pytest.LogCaptureFixture):
    written = put(pubsub.topic, 40)
    poison = put(pubsub.topic, 1, trace="x" * 1025)  # longer than Pub/Sub takes an attribute
    written |= put(pubsub.topic, 40)
    with inside():
        eventually(lambda: left(pubsub.topic) == 1)
        assert pubsub.published() == dict.fromkeys(written, 1)
        more = put(pubsub.topic, 3)
        eventually(lambda: left(pubsub.topic) == 1)
    assert pubsub.published() == dict.fromkeys(written | more, 1)
    refused = [vars(record) for record in caplog.records if record.message == "event refused"]
    assert {str(record["event_id"]) for record in refused} == poison


def test_large_events_go_in_several_requests(pubsub: Pubsub):
    written = put(pubsub.topic, 20, payload=b"x" * 1_000_000)
    with inside():
        eventually(lambda: left(pubsub.topic) == 0, 30)
    assert pubsub.published() == dict.fromkeys(written, 1)


def test_one_that_no_request_can_hold_is_refused(pubsub: Pubsub):
    put(pubsub.topic, 1, payload=b"x" * 10_500_000)
    written = put(pubsub.topic, 5)
    with inside():
        eventually(lambda: left(pubsub.topic) == 1)
    assert pubsub.published() == dict.fromkeys(written, 1)


def test_a_nudge_wakes_it(pubsub: Pubsub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(relays, "IDLE_SECONDS", 60)
    with inside():
        put(pubsub.topic, 1)

        def nudged() -> bool:
            cache.run_sync(nudge())
            return left(pubsub.topic) == 0

        eventually(nudged)


def test_without_redis_it_looks_by_itself(pubsub: Pubsub, servers: Servers):
    with inside():
        servers.valkey.kill()
        try:
            put(pubsub.topic, 1)
            eventually(lambda: left(pubsub.topic) == 0)
        finally:
            servers.valkey.start()


def test_after_the_broker_was_away_it_goes_on(pubsub: Pubsub, servers: Servers):
    with inside():
        put(pubsub.topic, 1)
        eventually(lambda: left(pubsub.topic) == 0)
        servers.pubsub.kill()
        try:
            written = put(pubsub.topic, 100)
            time.sleep(2)  # long enough for gRPC to wait between its attempts
            assert left(pubsub.topic) == 100
        finally:
            servers.pubsub.start()
        began = time.monotonic()
        eventually(lambda: left(pubsub.topic) == 0, 20)
        assert time.monotonic() - began < 8
    eventually(lambda: written <= pubsub.published().keys(), 20)


def test_after_postgres_was_away_it_goes_on(pubsub: Pubsub, servers: Servers):
    with inside():
        put(pubsub.topic, 1)
        eventually(lambda: left(pubsub.topic) == 0)
        servers.postgres.kill()
        servers.postgres.start()
        written = put(pubsub.topic, 100)
        eventually(lambda: left(pubsub.topic) == 0, 20)
    assert written <= pubsub.published().keys()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_finishes_its_batch(pubsub: Pubsub, relay: Relays, tmp_path: Path, number: signal.Signals):
    written = put(pubsub.topic, 5000)
    stopped = relay()
    eventually(lambda: left(pubsub.topic) < 5000, 30)
    stopped.send_signal(number)
    assert stopped.wait(15) == 0
    remaining = left(pubsub.topic)
    assert len(pubsub.published()) == 5000 - remaining
    assert set(pubsub.published().values()) <= {1}
    lines = [json.loads(line) for line in (tmp_path / "relay0.log").read_text().splitlines()]
    assert sum(line["events"] for line in lines if line["message"] == "relayed") == 5000 - remaining
    assert all(line["lag_ms"] >= 0 for line in lines if line["message"] == "relayed")
    relay()
    eventually(lambda: left(pubsub.topic) == 0, 30)
    assert pubsub.published() == dict.fromkeys(written, 1)
