"""The relay: takes events from the outbox and publishes them, `python -m realtime_service.relay`.

Rows are deleted in a transaction that commits only after Pub/Sub has confirmed them: killed at any instant the relay
loses nothing, and at worst publishes twice. Rows are locked with SKIP LOCKED, so several may run. A nudge through
Redis wakes it; without, it looks every 200 ms.
"""

import logging
import signal
import threading
import time
from concurrent.futures import Future
from typing import Any, Final

import msgspec
import redis as redis_py
from google.api_core.exceptions import GoogleAPICallError, NotFound, RetryError
from google.cloud import pubsub_v1

from shared.kernel import cache, clock, db, log
from shared.kernel.config import settings
from shared.kernel.events import NUDGE_CHANNEL
from shared.kernel.problems import Unavailable

BATCH: Final = 500
IDLE_SECONDS: Final = 0.2
CONFIRM_SECONDS: Final = 15.0
_BACKOFF: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
_log: Final = logging.getLogger("relay")


class OutboxRow(msgspec.Struct, frozen=True):
    """An event to be published."""

    id: int
    topic: str
    payload: bytes
    trace: str | None
    created_at: int


# A topic that refused lately is left alone for a while, so that its rows don't hold up the others.
_TAKE: Final = db.Statement(
    """DELETE FROM outbox WHERE id IN (
         SELECT id FROM outbox WHERE topic <> ALL(CAST(:resting AS text[]))
          ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED)
       RETURNING id, topic, payload, trace, created_at""",
    OutboxRow,
)


class TopicRefused(Exception):
    """Pub/Sub refused a topic's events: it isn't there, or isn't ours."""

    def __init__(self, topic: str, reason: str):
        super().__init__(f"{topic}: {reason}")
        self.topic = topic


class Relay:
    """One relay: its publisher, what wakes it, what rests."""

    def __init__(self) -> None:
        self.publisher: Any = pubsub_v1.PublisherClient(
            batch_settings=pubsub_v1.types.BatchSettings(max_messages=BATCH, max_latency=0.005, max_bytes=4_000_000)
        )
        self.wake = threading.Event()
        self.stopping = threading.Event()
        self.resting: dict[str, float] = {}

    def run(self) -> None:
        """Relay until stopped; the batch under way is finished."""
        threading.Thread(target=self._listen, name="nudges", daemon=True).start()
        failures = 0
        while not self.stopping.is_set():
            try:
                moved = self.relay_batch()
                failures = 0
            except TopicRefused as refused:
                _log.error("topic refused", extra={"reason": str(refused)})
                self.resting[refused.topic] = time.monotonic() + _BACKOFF[-1]
                continue
            except (Unavailable, GoogleAPICallError, RetryError, TimeoutError) as fault:
                _log.warning("can't relay just now", extra={"reason": f"{type(fault).__name__}: {fault}"})
                self.stopping.wait(_BACKOFF[min(failures, len(_BACKOFF) - 1)])
                failures += 1
                continue
            if moved < BATCH:
                self.wake.wait(IDLE_SECONDS)
                self.wake.clear()

    def relay_batch(self) -> int:
        """Publish one batch and take it from the outbox; answers how many. What is raised took nothing from it."""
        now = time.monotonic()
        self.resting = {topic: until for topic, until in self.resting.items() if until > now}
        with db.transaction() as conn:
            rows = sorted(_TAKE.all(conn, limit=BATCH, resting=list(self.resting)), key=lambda row: row.id)
            confirmations = [(row.topic, self._publish(row)) for row in rows]
            for topic, confirmation in confirmations:
                try:
                    confirmation.result(CONFIRM_SECONDS)
                except NotFound as fault:
                    raise TopicRefused(topic, str(fault.message)) from None
        if rows:
            oldest = min(row.created_at for row in rows)
            _log.info("relayed", extra={"events": len(rows), "lag_ms": clock.now_ms() - oldest})
        return len(rows)

    def _publish(self, row: OutboxRow) -> "Future[str]":
        topic = self.publisher.topic_path(settings().google_cloud_project, row.topic)
        attributes = {"type": row.topic, "event_id": str(row.id), "trace": row.trace or ""}
        return self.publisher.publish(topic, bytes(row.payload), timeout=CONFIRM_SECONDS, **attributes)

    def _listen(self) -> None:
        while not self.stopping.is_set():
            try:
                with cache.redis().pubsub(ignore_subscribe_messages=True) as nudges:
                    nudges.subscribe(NUDGE_CHANNEL)
                    while not self.stopping.is_set():
                        if nudges.get_message(timeout=1.0) is not None:
                            self.wake.set()
            except (redis_py.RedisError, OSError):
                self.stopping.wait(1.0)  # it polls meanwhile

    def stop(self) -> None:
        """Finish the batch under way, then end."""
        self.stopping.set()
        self.wake.set()


def main() -> None:
    """Run a relay until SIGTERM or SIGINT."""
    log.setup("relay")
    relay = Relay()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: relay.stop())
    relay.run()


if __name__ == "__main__":
    main()
