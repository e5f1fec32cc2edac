"""What happens to a message: to whom it goes, when it comes again, when it is given up.

Both ways out, push (`pubsub_push`) and pull (`pubsub_subscriber`), take deliveries here, and settle them here.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.pubsub_v1 import types

from infra.local import pubsub_history as history
from infra.local.pubsub_chaos import Chaos
from infra.local.pubsub_rules import DELETED_TOPIC, MAX_VALUE_BYTES, not_found
from infra.local.pubsub_store import Delivery, Message, Store
from shared.kernel.clock import now_ms

log = logging.getLogger("pubsub")
SWEEP_SECONDS: Final = 10.0
REDRIVE_BATCH: Final = 500
IDLE_MS: Final = 60_000
# A push without a retry policy backs off like this; a pull comes again at once.
PUSH_BACKOFF_MS: Final = (100, 60_000)
LEAST_BACKOFF_MS: Final = 10
LATE: Final = "not acknowledged within the deadline"


@dataclass(eq=False)
class Subscription:
    """A subscription at work. `changed` is set, and replaced, whenever there may be something to do for it."""

    id: int
    config: Any
    deleted: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        """As `projects/P/subscriptions/S`."""
        return self.config.name

    @property
    def endpoint(self) -> str:
        """Where it pushes to; empty if it is for pulling, or gone."""
        return "" if self.deleted else self.config.push_config.push_endpoint

    @property
    def lease_ms(self) -> int:
        """How long a delivery may take."""
        return self.config.ack_deadline_seconds * 1000

    @property
    def max_attempts(self) -> int | None:
        """After how many attempts a message is a dead letter; None: never."""
        if not self.config.HasField("dead_letter_policy"):
            return None
        return self.config.dead_letter_policy.max_delivery_attempts

    def signal(self) -> None:
        """Wake all who wait for something to do."""
        self.changed.set()
        self.changed = asyncio.Event()

    def backoff_ms(self, attempts: int, jitter: float) -> int:
        """How long to wait after so many failed attempts; `jitter` (0 to 1) spreads those that failed together."""
        if self.config.HasField("retry_policy"):
            policy = self.config.retry_policy
            least, most = _ms(policy.minimum_backoff), _ms(policy.maximum_backoff)
        elif self.endpoint:
            least, most = PUSH_BACKOFF_MS
        else:
            return 0
        grown = max(least, LEAST_BACKOFF_MS) * 2 ** min(attempts - 1, 20)
        return min(most, int(grown * (1 + jitter / 2)))


class Broker:
    """All topics and subscriptions, and the rules of delivery."""

    def __init__(self, store: Store, chaos: Chaos):
        self.store = store
        self.chaos = chaos
        self.closing = False
        self._attend: Callable[[Subscription], None] = lambda _: None
        self.topics: dict[str, Any] = {name: types.Topic.pb().FromString(config) for name, config in store.topics()}
        kept = [Subscription(id, types.Subscription.pb().FromString(config)) for id, config in store.subscriptions()]
        self.subscriptions: dict[str, Subscription] = {one.name: one for one in kept}

    def push_with(self, attend: Callable[[Subscription], None]) -> None:
        """Have `attend` look at every subscription, now and whenever one is made or changed."""
        self._attend = attend
        for one in self.subscriptions.values():
            attend(one)

    def topic(self, name: str) -> Any:
        """The configuration of a topic. Raises Refused NOT_FOUND."""
        if name not in self.topics:
            raise not_found(name)
        return self.topics[name]

    def subscription(self, name: str) -> Subscription:
        """Raises Refused NOT_FOUND."""
        if name not in self.subscriptions:
            raise not_found(name)
        return self.subscriptions[name]

    async def put_topic(self, config: Any) -> None:
        """Make or change a topic."""
        self.topics[config.name] = config
        await self.store.write(lambda: self.store.put_topic(config.name, config.SerializeToString()))

    async def delete_topic(self, name: str) -> None:
        """Its subscriptions stay, and get nothing more."""
        del self.topics[name]
        left = [one for one in self.subscriptions.values() if one.config.topic == name]
        for one in left:
            one.config.topic = DELETED_TOPIC

        def work() -> None:
            self.store.drop_topic(name)
            for one in left:
                self.store.put_subscription(one.id, one.config.SerializeToString())

        await self.store.write(work)

    async def create_subscription(self, config: Any) -> None:
        """Make a subscription: it gets what is published from now on."""
        id = self.store.new_subscription(config.name)
        made = self.subscriptions[config.name] = Subscription(id, config)
        await self._keep(made)

    async def configure(self, subscription: Subscription, config: Any) -> None:
        """Change a subscription."""
        subscription.config = config
        await self._keep(subscription)

    async def _keep(self, subscription: Subscription) -> None:
        config = subscription.config.SerializeToString()
        await self.store.write(lambda: self.store.put_subscription(subscription.id, config))
        subscription.signal()
        self._attend(subscription)

    async def delete_subscription(self, subscription: Subscription) -> None:
        """With all that it had still to deliver."""
        del self.subscriptions[subscription.name]
        subscription.deleted = True
        subscription.signal()
        await self.store.write(lambda: self.store.drop_subscription(subscription.id))

    # messages

    async def publish(self, messages: Sequence[Message]) -> list[int]:
        """Keep messages, all to one topic; their ids, once they are committed. Raises sqlite3.Error."""
        heard_by = self._subscribed(messages[0].topic)
        numbers = [one.id for one in heard_by]

        def work() -> list[int]:
            now = now_ms()
            return [self.store.publish(message, numbers, now + self.chaos.hold_back_ms()) for message in messages]

        ids = await self.store.write(work)
        for one in heard_by:
            one.signal()
        return ids

    def _subscribed(self, topic: str) -> list[Subscription]:
        return [one for one in self.subscriptions.values() if one.config.topic == topic]

    def take(self, subscription: Subscription, limit: int, lease_ms: int) -> list[Delivery]:
        """Begin attempts at what is due. An attempt that was never settled may have been the last one allowed."""
        most = subscription.max_attempts
        taken: list[Delivery] = []
        for delivery in self.store.take(subscription.id, limit, lease_ms):
            if most is not None and delivery.attempts > most:
                self._bury(subscription, delivery.id, delivery.attempts, LATE, None)
            else:
                taken.append(delivery)
        return taken

    async def wait(self, subscription: Subscription, changed: asyncio.Event, at_most_ms: int = IDLE_MS) -> None:
        """Until `changed` is set (take it before looking), or the next delivery is due."""
        due = self.store.next_due(subscription.id)
        delay = at_most_ms if due is None else min(at_most_ms, max(1, due - now_ms()))
        timer = asyncio.get_running_loop().call_later(delay / 1000, changed.set)
        try:
            await changed.wait()
        finally:
            timer.cancel()
            if changed is subscription.changed:
                subscription.changed = asyncio.Event()

    def succeeded(self, subscription: Subscription, message: int, ms: float | None = None) -> "asyncio.Future[None]":
        """An acknowledgement, of whichever attempt."""
        return self.store.write(lambda: self.store.acknowledge(subscription.id, message, ms))

    def failed(
        self, subscription: Subscription, message: int, attempt: int, reason: str, ms: float | None = None
    ) -> "asyncio.Future[Any]":
        """An attempt went wrong: the message comes again, or is a dead letter."""
        most = subscription.max_attempts
        if most is not None and attempt >= most:
            return self._bury(subscription, message, attempt, reason, ms)
        due = now_ms() + subscription.backoff_ms(attempt, self.chaos.random.random())
        settled = self.store.write(lambda: self.store.retry(subscription.id, message, attempt, reason, due, ms))
        settled.add_done_callback(lambda _: subscription.signal())
        return settled

    def _bury(
        self, subscription: Subscription, message: int, attempt: int, reason: str, ms: float | None
    ) -> "asyncio.Future[Any]":
        """Keep a dead letter, and publish it to the dead-letter topic, both or neither."""
        topic = subscription.config.dead_letter_policy.dead_letter_topic
        heard_by = self._subscribed(topic) if topic in self.topics else []
        log.warning("%s gave up message %d after %d attempts: %s", subscription.name, message, attempt, reason)

        def work() -> None:
            original = self.store.message(message)
            if original is None or not self.store.bury(subscription.id, message, attempt, reason, ms):
                return
            forwarded = _forwarded(*original, subscription.name, topic, attempt, reason)
            self.store.publish(forwarded, [one.id for one in heard_by], now_ms())

        settled = self.store.write(work)
        settled.add_done_callback(lambda _: [one.signal() for one in heard_by])
        return settled

    async def redrive(self, id: int | None) -> int:
        """Send dead letters again, all or one, to the subscriptions that gave them up; answers how many.

        Those whose subscription is gone stay.
        """
        sent, last = 0, 0
        while letters := history.letters(self.store.db, id, last, REDRIVE_BATCH):
            last = letters[-1].id
            able = [
                (letter, self.subscriptions[letter.subscription])
                for letter in letters
                if letter.subscription in self.subscriptions
            ]
            await self.store.write(lambda able=able: [self.store.redrive(letter, to.id) for letter, to in able])
            for _, to in able:
                to.signal()
            sent += len(able)
        return sent

    async def sweep(self) -> None:
        """Drop from time to time what is too old. Runs until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            oldest = {
                one.id: now_ms() - one.config.message_retention_duration.ToMilliseconds()
                for one in self.subscriptions.values()
            }

            def work(oldest: dict[int, int] = oldest) -> None:
                history.trim(self.store.db)
                for id, before in oldest.items():
                    self.store.expire(id, before)

            with suppress(sqlite3.Error):  # it is in the log; there is a next time
                await self.store.write(work)

    def close(self) -> None:
        """Send everybody away who waits."""
        self.closing = True
        for one in self.subscriptions.values():
            one.signal()


def instant(ms: int) -> str:
    """As RFC 3339."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _forwarded(
    message: Message, published_at: int, subscription: str, topic: str, attempts: int, reason: str
) -> Message:
    """A dead letter, with the attributes that the real service adds."""
    source = {
        "SourceDeliveryCount": str(attempts),
        "SourceSubscription": subscription.rpartition("/")[2],
        "SourceSubscriptionProject": subscription.split("/")[1],
        "SourceTopicPublishTime": instant(published_at),
        "SourceDeliveryErrorMessage": reason.encode()[:MAX_VALUE_BYTES].decode(errors="ignore"),
    }
    added = {f"CloudPubSubDeadLetter{name}": value for name, value in source.items()}
    return Message(topic, message.data, message.attributes | added, message.ordering_key)


def _ms(duration: Duration) -> int:
    return duration.ToMilliseconds()
