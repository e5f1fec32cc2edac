"""Push: deliveries go out as Eventarc's CloudEvents; a 2xx is the acknowledgement, anything else comes again.

Each subscription has places of its own, so that a slow function holds up no other.
"""

import asyncio
import logging
import sqlite3
import time
from typing import Final

import aiohttp
import msgspec
from yarl import URL

from infra.local.pubsub_broker import Broker, Subscription, instant
from infra.local.pubsub_store import Delivery

log = logging.getLogger("pubsub")
PLACES: Final = 16
EXCERPT_BYTES: Final = 300
DISCARDED_BYTES: Final = 64 * 1024
# Shorter than servers hold idle connections (gunicorn 2 s): one that is about to be closed is not used any more.
IDLE_SECONDS: Final = 1.5
# The push is over before its lease is, so that an attempt is never made twice at a time.
MARGIN_MS: Final = 5_000
FAULT_SECONDS: Final = 1.0


class Pusher:
    """Delivers to every subscription that has a push endpoint, over kept connections."""

    def __init__(self, broker: Broker):
        self._broker = broker
        self._pumps: dict[Subscription, asyncio.Task[None]] = {}
        self._pushes: set[asyncio.Task[None]] = set()
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "APIs-Google; (+https://developers.google.com/webmasters/APIs-Google.html)"},
            skip_auto_headers=("Accept", "Accept-Encoding"),
        )

    def attend(self, subscription: Subscription) -> None:
        """Push for a subscription, if it wants that and nobody does yet."""
        if subscription.endpoint and subscription not in self._pumps:
            self._pumps[subscription] = asyncio.create_task(self._pump(subscription))

    async def close(self, seconds: float) -> None:
        """Begin no more pushes; give those under way `seconds` to end. Those cut off come again after a start."""
        for pump in self._pumps.values():
            pump.cancel()
        if self._pushes:
            _, late = await asyncio.wait(self._pushes, timeout=seconds)
            for push in late:
                push.cancel()
        await self._session.close()

    async def _pump(self, subscription: Subscription) -> None:
        underway: set[asyncio.Task[None]] = set()
        try:
            while subscription.endpoint:
                changed = subscription.changed
                try:
                    self._start_due(subscription, underway)
                    if len(underway) < PLACES:
                        await self._broker.wait(subscription, changed)
                    else:
                        await changed.wait()
                except sqlite3.Error:
                    log.exception("%s: can't take deliveries just now", subscription.name)
                    await asyncio.sleep(FAULT_SECONDS)
        finally:
            del self._pumps[subscription]

    def _start_due(self, subscription: Subscription, underway: set[asyncio.Task[None]]) -> None:
        places = PLACES - len(underway)
        if places <= 0:
            return

        def place_is_free(push: "asyncio.Task[None]") -> None:
            if len(underway) == PLACES:
                subscription.signal()  # else all that is due is taken already
            underway.discard(push)

        for delivery in self._broker.take(subscription, places, subscription.lease_ms + MARGIN_MS):
            push = asyncio.create_task(self._attempt(subscription, delivery))
            underway.add(push)
            push.add_done_callback(place_is_free)
            self._follow(push)
            if self._broker.chaos.duplicates():
                self._follow(asyncio.create_task(self._once_more(subscription, delivery)))

    def _follow(self, push: "asyncio.Task[None]") -> None:
        self._pushes.add(push)
        push.add_done_callback(self._ended)

    def _ended(self, push: "asyncio.Task[None]") -> None:
        self._pushes.discard(push)
        if not push.cancelled() and (fault := push.exception()) is not None:
            # Unsettled, the delivery comes again when its lease ends.
            log.error("a push failed", exc_info=fault)

    async def _attempt(self, subscription: Subscription, delivery: Delivery) -> None:
        started = time.perf_counter()
        fault = await self._push(subscription, delivery)
        ms = (time.perf_counter() - started) * 1000
        if not fault and self._broker.chaos.loses_ack():
            fault = "the acknowledgement was lost (--drop-acks)"
        if fault:
            await self._broker.failed(subscription, delivery.id, delivery.attempts, fault, ms)
        else:
            await self._broker.succeeded(subscription, delivery.id, ms)

    async def _once_more(self, subscription: Subscription, delivery: Delivery) -> None:
        await asyncio.sleep(self._broker.chaos.second_after())
        await self._push(subscription, delivery)

    async def _push(self, subscription: Subscription, delivery: Delivery) -> str:
        """One request; what was wrong with it, or nothing."""
        timeout = aiohttp.ClientTimeout(total=subscription.lease_ms / 1000)
        body, headers = _cloud_event(subscription, delivery)
        try:
            url = URL(subscription.endpoint)
            async with self._session.post(
                url, data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as answer:
                return await _read(answer)
        except TimeoutError:
            return f"no answer within {subscription.lease_ms // 1000} s"
        except (aiohttp.ClientError, OSError, ValueError) as fault:
            return f"{type(fault).__name__}: {fault}"


async def _read(answer: aiohttp.ClientResponse) -> str:
    if 200 <= answer.status < 300:
        await answer.content.read(DISCARDED_BYTES)  # read to its end, the connection can be used again
        return ""
    text = (await answer.content.read(EXCERPT_BYTES)).decode("utf-8", "replace")
    return f"{answer.status} {answer.reason}: {text}"


def _cloud_event(subscription: Subscription, delivery: Delivery) -> tuple[bytes, dict[str, str]]:
    """A delivery in Eventarc's form: https://cloud.google.com/eventarc/docs/cloudevents, binary content mode."""
    published = instant(delivery.published_at)
    id = str(delivery.id)
    message: dict[str, object] = {
        "data": delivery.message.data,  # msgspec writes bytes as base64
        "attributes": delivery.message.attributes,
        "messageId": id,
        "message_id": id,
        "publishTime": published,
        "publish_time": published,
    }
    if delivery.message.ordering_key:
        message["orderingKey"] = delivery.message.ordering_key
    body: dict[str, object] = {"message": message, "subscription": subscription.name}
    if subscription.max_attempts is not None:
        body["deliveryAttempt"] = delivery.attempts
    return msgspec.json.encode(body), {
        "Content-Type": "application/json",
        "ce-id": id,
        "ce-type": "google.cloud.pubsub.topic.v1.messagePublished",
        "ce-source": f"//pubsub.googleapis.com/{delivery.message.topic}",
        "ce-specversion": "1.0",
        "ce-time": published,
    }
