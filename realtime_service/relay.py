"""The relay: takes events from the outbox and publishes them, `python -m realtime_service.relay`.

Rows are deleted in a transaction that commits only after Pub/Sub has confirmed them: killed at any instant the relay
loses nothing, and at worst publishes twice. Rows are locked with SKIP LOCKED, so several may run. A nudge through
Redis wakes it; without, it looks every 200 ms.

What is due by the clock it puts in the outbox itself: it is what is always on. A row that is due later waits there.

A topic that isn't there, or a message that Pub/Sub refuses, rests for a while, longer each time, and holds up nothing
else: which ones rest is known to this process only, so a restart tries them at once.
"""

import logging
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import grpc
import msgspec
import redis as redis_py
from google.api_core.exceptions import GoogleAPICallError, InvalidArgument, NotFound, PermissionDenied, RetryError
from google.auth.exceptions import GoogleAuthError
from google.pubsub_v1 import PublisherClient, PublishRequest
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

from shared.kernel import cache, clock, db, log, upkeep
from shared.kernel.config import settings
from shared.kernel.events import NUDGE_CHANNEL

BATCH: Final = 500
# Pub/Sub takes 10 MB a request; what a message has besides its payload is small.
REQUEST_BYTES: Final = 8_000_000
IDLE_SECONDS: Final = 0.2
# Well within the time that Postgres lets a transaction idle: its rows wait in one meanwhile.
CONFIRM_SECONDS: Final = 8.0
TOPICS_AT_ONCE: Final = 8
REPORT_SECONDS: Final = 1.0
# How often it looks for what is due by the clock.
SCHEDULE_SECONDS: Final = 5.0
# How long the thread that hears nudges may take to hear of the end.
LISTEN_SECONDS: Final = 0.25
_BACKOFF: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
_REST: Final = (0.5, 1.0, 2.0, 5.0, 15.0, 60.0)
_log: Final = logging.getLogger("relay")


class OutboxRow(msgspec.Struct, frozen=True):
    """An event to be published."""

    id: int
    topic: str
    payload: bytes
    trace: str | None
    due_at: int


_TAKE: Final = db.Statement(
    """WITH taken AS MATERIALIZED (
         SELECT id FROM outbox
          WHERE topic <> ALL(CAST(:resting_topics AS text[])) AND id <> ALL(CAST(:resting_rows AS bigint[]))
            AND due_at <= :now
          ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED)
       DELETE FROM outbox USING taken WHERE outbox.id = taken.id
       RETURNING outbox.id, topic, payload, trace, greatest(created_at, due_at)""",
    OutboxRow,
)
_DELETE: Final = db.Statement("DELETE FROM outbox WHERE id = ANY(CAST(:ids AS bigint[]))")


class Outcome(NamedTuple):
    """What came of publishing rows: which were, and the fault that says it's no use to go on just now."""

    published: list[OutboxRow]
    fault: Exception | None


class Rests:
    """What is left alone for a while: topics or rows that Pub/Sub refused, longer after each time."""

    def __init__(self) -> None:
        self._until: dict[str | int, tuple[float, int]] = {}

    def add(self, what: str | int) -> float:
        """Let it rest; answers for how many seconds."""
        times = self._until.get(what, (0.0, 0))[1]
        seconds = _REST[min(times, len(_REST) - 1)]
        self._until[what] = (time.monotonic() + seconds, times + 1)
        return seconds

    def end(self, what: str | int) -> None:
        """It went well."""
        self._until.pop(what, None)

    def now(self) -> list[str | int]:
        """What rests now."""
        now = time.monotonic()
        # What rested long ago and was not tried again has gone another way.
        self._until = {what: rest for what, rest in self._until.items() if rest[0] > now - _REST[-1]}
        return [what for what, (until, _) in self._until.items() if until > now]


def connect() -> PublisherClient:
    """Pub/Sub's client: of the service, or of the emulator that PUBSUB_EMULATOR_HOST names."""
    emulator = settings().pubsub_emulator_host
    if not emulator:
        return PublisherClient()
    # gRPC's own backoff grows to minutes: a broker that comes back is to be found at once.
    channel = grpc.insecure_channel(emulator, options=[("grpc.max_reconnect_backoff_ms", 1000)])
    return PublisherClient(transport=PublisherGrpcTransport(channel=channel))


class Relay:
    """One relay: its publisher, what wakes it, what rests."""

    def __init__(self) -> None:
        self._publisher = connect()
        self._threads = ThreadPoolExecutor(TOPICS_AT_ONCE, thread_name_prefix="publish")
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._topics = Rests()
        self._rows = Rests()
        self._events = 0
        self._lag_ms = 0
        self._reported_at = 0.0
        self._look_at = 0.0

    def run(self) -> None:
        """Relay until stopped; the batch under way is finished."""
        nudges = threading.Thread(target=self._listen, name="nudges", daemon=True)
        nudges.start()
        self._relay_batches()
        self._report(last=True)
        nudges.join()

    def _relay_batches(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            fault: Exception | None
            try:
                self._emit_due()
                taken, fault = self.relay_batch()
            except (db.DatabaseUnavailable, db.DatabaseError) as error:
                taken, fault = 0, error
            self._report()
            if fault is not None:
                _log.warning("can't relay just now", extra={"reason": f"{type(fault).__name__}: {fault}"})
                self._stopping.wait(_BACKOFF[min(failures, len(_BACKOFF) - 1)])
                failures += 1
            else:
                failures = 0
                if taken < BATCH:
                    self._wake.wait(IDLE_SECONDS)
                    self._wake.clear()

    def _emit_due(self) -> None:
        """Put what is due by the clock in the outbox. Raises DatabaseUnavailable, DatabaseError."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + SCHEDULE_SECONDS
            upkeep.emit_due()

    def relay_batch(self) -> tuple[int, Exception | None]:
        """Publish a batch and take it from the outbox. Answers how many rows there were, and what stopped it, if so.

        Raises DatabaseUnavailable, DatabaseError: what was published may be published again.
        """
        conn: db.Connection
        with db.connection() as conn:
            conn.begin()
            try:
                rows = _TAKE.all(
                    conn,
                    limit=BATCH,
                    now=clock.now_ms(),
                    resting_topics=self._topics.now(),
                    resting_rows=self._rows.now(),
                )
                published, fault = self._publish(sorted(rows, key=lambda row: row.id))
            except BaseException:
                conn.rollback()
                raise
            if len(published) == len(rows):
                conn.commit()
            else:
                conn.rollback()
                # Another relay may have taken some meanwhile: then they are published twice.
                _DELETE.run(conn, ids=[row.id for row in published])
        if published:
            self._events += len(published)
            self._lag_ms = max(self._lag_ms, clock.now_ms() - min(row.due_at for row in published))
        return len(rows), fault

    def _publish(self, rows: Sequence[OutboxRow]) -> Outcome:
        outcomes = list(self._threads.map(self._publish_some, _requests(rows))) if rows else []
        faults = [outcome.fault for outcome in outcomes if outcome.fault is not None]
        return Outcome([row for outcome in outcomes for row in outcome.published], faults[0] if faults else None)

    def _publish_some(self, rows: Sequence[OutboxRow]) -> Outcome:
        """Publish rows of one topic in one request."""
        topic = rows[0].topic
        try:
            self._publisher.publish(request=_request(topic, rows), retry=None, timeout=CONFIRM_SECONDS)
        except (NotFound, PermissionDenied) as error:
            self._refused("topic refused", self._topics.add(topic), error, topic=topic, events=len(rows))
            return Outcome([], None)
        except InvalidArgument as error:
            if len(rows) > 1:  # one message can spoil a request: find it
                halves = [self._publish_some(part) for part in (rows[: len(rows) // 2], rows[len(rows) // 2 :])]
                return Outcome(halves[0].published + halves[1].published, halves[0].fault or halves[1].fault)
            self._refused("event refused", self._rows.add(rows[0].id), error, topic=topic, event_id=rows[0].id)
            return Outcome([], None)
        except (GoogleAPICallError, GoogleAuthError, RetryError) as error:
            return Outcome([], error)
        self._topics.end(topic)
        for row in rows:
            self._rows.end(row.id)
        return Outcome(list(rows), None)

    def _refused(self, message: str, seconds: float, error: GoogleAPICallError, **fields: object) -> None:
        _log.error(message, extra={"reason": error.message, "rests_seconds": seconds, **fields})

    def _report(self, *, last: bool = False) -> None:
        """Log what was relayed, a line a second at most."""
        now = time.monotonic()
        if self._events and (last or now - self._reported_at >= REPORT_SECONDS):
            _log.info("relayed", extra={"events": self._events, "lag_ms": self._lag_ms})
            self._events = self._lag_ms = 0
            self._reported_at = now

    def _listen(self) -> None:
        while not self._stopping.is_set():
            try:
                with cache.redis().pubsub(ignore_subscribe_messages=True) as nudges:
                    nudges.subscribe(NUDGE_CHANNEL)
                    while not self._stopping.is_set():
                        if nudges.get_message(timeout=LISTEN_SECONDS) is not None:
                            self._wake.set()
            except (redis_py.RedisError, OSError):
                self._stopping.wait(1.0)  # it polls meanwhile

    def stop(self) -> None:
        """Finish the batch under way, then end."""
        self._stopping.set()
        self._wake.set()


def _requests(rows: Sequence[OutboxRow]) -> Iterator[list[OutboxRow]]:
    """Rows by topic, in order, no more together than a request may hold."""
    by_topic: dict[str, list[OutboxRow]] = {}
    sizes: dict[str, int] = {}
    for row in rows:
        some = by_topic.setdefault(row.topic, [])
        size = sizes.get(row.topic, 0) + len(row.payload)
        if some and size > REQUEST_BYTES:
            yield some
            some = by_topic[row.topic] = []
            size = len(row.payload)
        some.append(row)
        sizes[row.topic] = size
    yield from by_topic.values()


def _request(topic: str, rows: Sequence[OutboxRow]) -> PublishRequest:
    request = PublishRequest(topic=PublisherClient.topic_path(settings().google_cloud_project, topic))
    # Past proto-plus, whose wrapper of a message costs more than all else that is done for it.
    messages = PublishRequest.pb(request).messages
    for row in rows:
        attributes = {"type": topic, "event_id": str(row.id)}
        if row.trace:
            attributes["trace"] = row.trace
        messages.add(data=row.payload, attributes=attributes)
    return request


def main() -> None:
    """Run a relay until SIGTERM or SIGINT."""
    log.setup("relay")
    relay = Relay()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: relay.stop())
    relay.run()


if __name__ == "__main__":
    main()
