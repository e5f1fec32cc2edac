"""Pull: acknowledgement ids, deadlines, and a stream's flow control."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any, Final

import grpc
from google.pubsub_v1 import types

from infra.local.pubsub_broker import Broker, Subscription
from infra.local.pubsub_rules import Refused, invalid, not_found
from infra.local.pubsub_store import Delivery
from shared.kernel.clock import now_ms

BATCH: Final = 100
BATCH_BYTES: Final = 3 * 1024 * 1024
MAX_OUTSTANDING: Final = 10_000
NACKED: Final = "negatively acknowledged"


def read_ack_ids(ids: Iterable[str]) -> list[tuple[int, int]]:
    """Message and attempt of each `message-attempt`. Raises Refused for what no pull has given."""
    read: list[tuple[int, int]] = []
    for id in ids:
        message, _, attempt = id.partition("-")
        if not (_is_number(message) and _is_number(attempt)):
            raise invalid(f"You have passed an invalid ack ID to the service (ack_id={id[:100]}).")
        read.append((int(message), int(attempt)))
    if not read:
        raise invalid("No ack ids specified.")
    return read


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18  # fits in SQLite's integers


async def acknowledge(broker: Broker, subscription: Subscription, ids: Iterable[str]) -> None:
    """Done with these, in one commit. What is settled already is ignored, as the real service does."""
    kept = [message for message, _ in read_ack_ids(ids) if not broker.chaos.loses_ack()]
    await asyncio.gather(*(broker.succeeded(subscription, message) for message in kept))
    subscription.signal()


async def modify_deadlines(
    broker: Broker, subscription: Subscription, ids: Sequence[str], seconds: Sequence[int]
) -> None:
    """Move the ends of leases, in one commit; 0 seconds gives a delivery back as failed. Raises Refused."""
    if not all(0 <= given <= 600 for given in seconds):
        raise invalid("A modified ack deadline must be between 0 and 600 seconds.")
    if len(ids) != len(seconds):
        raise invalid("There must be a deadline for each ack id.")
    now = now_ms()

    def modify(message: int, attempt: int, given: int) -> "asyncio.Future[None]":
        if given == 0:
            return broker.failed(subscription, message, attempt, NACKED)
        due = now + given * 1000
        return broker.store.write(lambda: broker.store.extend(subscription.id, message, attempt, due))

    pairs = zip(read_ack_ids(ids), seconds, strict=True)
    await asyncio.gather(*(modify(message, attempt, given) for (message, attempt), given in pairs))
    subscription.signal()


def received(broker: Broker, subscription: Subscription, taken: Sequence[Delivery]) -> list[Any]:
    """Deliveries in the form of a pull's answer."""
    counted = subscription.max_attempts is not None
    return [
        types.ReceivedMessage.pb()(
            ack_id=f"{one.id}-{one.attempts}",
            delivery_attempt=one.attempts if counted else 0,
            message=types.PubsubMessage.pb()(
                data=one.message.data,
                attributes=one.message.attributes,
                message_id=str(one.id),
                publish_time={"seconds": one.published_at // 1000, "nanos": one.published_at % 1000 * 1_000_000},
                ordering_key=one.message.ordering_key,
            ),
        )
        for one in taken
        for _ in range(1 + broker.chaos.duplicates())
    ]


class Stream:
    """One StreamingPull: what it holds, and how much it wants to."""

    def __init__(self, broker: Broker, subscription: Subscription, first: Any):
        self._broker = broker
        self._subscription = subscription
        self._lease_ms = check_deadline(first.stream_ack_deadline_seconds) * 1000
        wanted: int = first.max_outstanding_messages
        self._most = min(MAX_OUTSTANDING, wanted) if wanted > 0 else MAX_OUTSTANDING
        self._held: set[int] = set()

    async def run(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Answers as deliveries become due, until the client goes. Raises Refused when there is no more to pull."""
        subscription = self._subscription
        listening = asyncio.create_task(self._listen(requests))
        listening.add_done_callback(lambda _: subscription.signal())
        try:
            while not listening.done():
                changed = subscription.changed
                self._check_open()
                taken = self._take()
                self._held.update(one.id for one in taken)
                for answer in _batches(received(self._broker, subscription, taken)):
                    yield answer
                if not taken:
                    await self._broker.wait(subscription, changed)
            listening.result()
        finally:
            listening.cancel()

    def _check_open(self) -> None:
        if self._subscription.deleted:
            raise not_found(self._subscription.name)
        if self._broker.closing:
            raise Refused(grpc.StatusCode.UNAVAILABLE, "The broker is going away.")

    def _take(self) -> list[Delivery]:
        if len(self._held) >= self._most:
            self._held &= self._broker.store.leased(self._subscription.id)
        free = self._most - len(self._held)
        return self._broker.take(self._subscription, min(BATCH, free), self._lease_ms) if free > 0 else []

    async def _listen(self, requests: AsyncIterator[Any]) -> None:
        async for request in requests:
            if request.ack_ids:
                await acknowledge(self._broker, self._subscription, request.ack_ids)
            if request.modify_deadline_ack_ids:
                ids, seconds = request.modify_deadline_ack_ids, request.modify_deadline_seconds
                await modify_deadlines(self._broker, self._subscription, ids, seconds)
            if request.stream_ack_deadline_seconds:
                self._lease_ms = check_deadline(request.stream_ack_deadline_seconds) * 1000


def check_deadline(seconds: int) -> int:
    """A stream's deadline. Raises Refused."""
    if not 10 <= seconds <= 600:
        raise invalid("stream_ack_deadline_seconds must be between 10 and 600.")
    return seconds


def _batches(messages: list[Any]) -> Iterator[Any]:
    """As few responses as clients with the usual limit of 4 MiB can take."""
    batch: list[Any] = []
    size = 0
    for message in messages:
        if batch and size + message.ByteSize() > BATCH_BYTES:
            yield types.StreamingPullResponse.pb()(received_messages=batch)
            batch, size = [], 0
        batch.append(message)
        size += message.ByteSize()
    if batch:
        yield types.StreamingPullResponse.pb()(received_messages=batch)
