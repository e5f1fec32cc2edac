"""Push: due deliveries go out as Eventarc's CloudEvents; 2xx is the acknowledgement, all else comes again, then dies.

The chaos that tests ask for is made here: duplicates, another order, delays, acknowledgements that get lost.
"""

import asyncio
import base64
import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import aiohttp
from google.pubsub_v1.types import Subscription

from infra.local.pubsub_store import Delivery, Outcome, Store

PARALLEL = 16
LEASE_SECONDS = 60.0
IDLE_SECONDS = 5.0
ATTEMPTS_BY_DEFAULT = 5


@dataclass(frozen=True)
class Chaos:
    """Probabilities of a duplicate, an attempt put off behind others, a lost acknowledgement; a delay in seconds."""

    duplicate: float = 0.0
    reorder: float = 0.0
    drop_acks: float = 0.0
    delay: float = 0.0
    seed: int = 0


class Pusher:
    """Delivers to every subscription that has a push endpoint."""

    def __init__(self, store: Store, subscriptions: Callable[[], dict[str, Subscription]], chaos: Chaos):
        self.store = store
        self.subscriptions = subscriptions
        self.chaos = chaos
        self.random = random.Random(chaos.seed)
        self.wake = asyncio.Event()
        self.settled: list[Outcome] = []
        self.underway: set[asyncio.Task[None]] = set()
        self.busy: Counter[str] = Counter()

    async def run(self) -> None:
        """Deliver until cancelled; attempts under way are finished and settled."""
        timeout = aiohttp.ClientTimeout(total=LEASE_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
            try:
                while True:
                    self.wake.clear()
                    if not await self._round(session):
                        await self._sleep()
            finally:
                await asyncio.gather(*self.underway, return_exceptions=True)
                self._settle()

    async def _round(self, session: aiohttp.ClientSession) -> int:
        taken = 0
        for name, subscription in self.subscriptions().items():
            if not subscription.push_config.push_endpoint:
                continue
            # Each subscription has places of its own: an endpoint that hangs holds up no other.
            due = self.store.take_due(name, PARALLEL - self.busy[name], LEASE_SECONDS)
            if self.chaos.reorder:
                self.random.shuffle(due)
            for delivery in due:
                taken += 1
                for _ in range(1 + (self.random.random() < self.chaos.duplicate)):
                    self.busy[name] += 1
                    task = asyncio.create_task(self._attempt(session, subscription, delivery))
                    self.underway.add(task)
                    task.add_done_callback(partial(self._finished, name))
        return taken

    async def _sleep(self) -> None:
        pushed = [
            name
            for name, one in self.subscriptions().items()
            if one.push_config.push_endpoint and self.busy[name] < PARALLEL
        ]
        due = self.store.next_due(pushed)
        seconds = IDLE_SECONDS if due is None else min(IDLE_SECONDS, max(0.005, due - time.time()))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.wake.wait(), seconds)

    def _finished(self, name: str, task: "asyncio.Task[None]") -> None:
        self.underway.discard(task)
        self.busy[name] -= 1

    async def _attempt(self, session: aiohttp.ClientSession, subscription: Subscription, delivery: Delivery) -> None:
        if self.chaos.reorder and self.random.random() < self.chaos.reorder:
            await asyncio.sleep(self.random.random() * 0.2)
        started = time.perf_counter()
        fault = await _push(session, subscription.push_config.push_endpoint, delivery)
        ms = (time.perf_counter() - started) * 1000
        if not fault and self.random.random() < self.chaos.drop_acks:
            fault = "the acknowledgement was lost"
        if not self.settled:
            asyncio.get_running_loop().call_soon(self._settle)
        self.settled.append(self._judge(subscription, delivery, fault, ms))

    def _settle(self) -> None:
        settled, self.settled = self.settled, []
        if settled:
            self.store.record(settled)
            for done in settled:
                if done.outcome == "dead":
                    self._bury(done)
            self.wake.set()

    def _judge(self, subscription: Subscription, delivery: Delivery, fault: str, ms: float) -> Outcome:
        if not fault:
            return Outcome(delivery, "delivered", "", ms, None)
        policy = subscription.dead_letter_policy
        most = policy.max_delivery_attempts or ATTEMPTS_BY_DEFAULT
        if policy.dead_letter_topic and delivery.attempts >= most:
            return Outcome(delivery, "dead", fault, ms, None)
        # Any: proto-plus gives a timedelta for what is declared as a Duration.
        policy_of_retry: Any = subscription.retry_policy
        least = policy_of_retry.minimum_backoff.total_seconds() or 0.1
        longest = policy_of_retry.maximum_backoff.total_seconds() or 60.0
        backoff = min(longest, least * 2 ** min(delivery.attempts - 1, 20)) * self.random.uniform(0.8, 1.2)
        return Outcome(delivery, "retrying", fault, ms, time.time() + backoff)

    def _bury(self, done: Outcome) -> None:
        one = done.delivery
        subscription = self.subscriptions().get(one.subscription)
        if subscription is None:
            return
        # The attributes are those that the real service adds to what it forwards; the reason is ours.
        attributes = one.attributes | {
            "CloudPubSubDeadLetterSourceSubscription": one.subscription.rpartition("/")[2],
            "CloudPubSubDeadLetterSourceSubscriptionProject": one.subscription.split("/")[1],
            "CloudPubSubDeadLetterSourceTopicPublishTime": _instant(one.published_at),
            "CloudPubSubDeadLetterSourceDeliveryCount": str(one.attempts),
            "reason": done.reason,
        }
        self.store.publish([(subscription.dead_letter_policy.dead_letter_topic, one.data, attributes, "")])


async def _push(session: aiohttp.ClientSession, endpoint: str, delivery: Delivery) -> str:
    """One attempt; what was wrong with it, or nothing."""
    message: dict[str, Any] = {
        "data": base64.b64encode(delivery.data).decode(),
        "attributes": delivery.attributes,
        "messageId": str(delivery.id),
        "message_id": str(delivery.id),
        "publishTime": _instant(delivery.published_at),
        "publish_time": _instant(delivery.published_at),
    }
    headers = {
        "ce-id": str(delivery.id),
        "ce-type": "google.cloud.pubsub.topic.v1.messagePublished",
        "ce-source": f"//pubsub.googleapis.com/{delivery.topic}",
        "ce-specversion": "1.0",
        "ce-time": _instant(delivery.published_at),
    }
    body = {"message": message, "subscription": delivery.subscription, "deliveryAttempt": delivery.attempts}
    try:
        async with session.post(endpoint, json=body, headers=headers) as answer:
            text = await answer.text(errors="replace")
            return "" if 200 <= answer.status < 300 else f"{answer.status}: {text[:300]}"
    except (aiohttp.ClientError, OSError, TimeoutError) as fault:
        return f"{type(fault).__name__}: {fault}"


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
