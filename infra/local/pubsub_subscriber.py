"""Pub/Sub's Subscriber service: subscriptions, and pulling."""

import time
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
from google.pubsub_v1 import types

from infra.local import pubsub_rules as rules
from infra.local.pubsub_broker import Broker, Subscription
from infra.local.pubsub_grpc import page, stream, unary
from infra.local.pubsub_pull import Stream, acknowledge, modify_deadlines, received

PULL_SECONDS: Final = 5.0
MAX_PULLED: Final = 1000


class Subscriber:
    """The service's methods, each for one call. They raise Refused."""

    def __init__(self, broker: Broker):
        self._broker = broker

    def handler(self) -> grpc.GenericRpcHandler:
        """For a grpc.aio server."""
        methods = {
            "CreateSubscription": unary(self.create, types.Subscription, types.Subscription),
            "GetSubscription": unary(self.get, types.GetSubscriptionRequest, types.Subscription),
            "UpdateSubscription": unary(self.update, types.UpdateSubscriptionRequest, types.Subscription),
            "ListSubscriptions": unary(self.list, types.ListSubscriptionsRequest, types.ListSubscriptionsResponse),
            "DeleteSubscription": unary(self.delete, types.DeleteSubscriptionRequest),
            "ModifyPushConfig": unary(self.modify_push, types.ModifyPushConfigRequest),
            "ModifyAckDeadline": unary(self.modify_deadline, types.ModifyAckDeadlineRequest),
            "Acknowledge": unary(self.acknowledge, types.AcknowledgeRequest),
            "Pull": unary(self.pull, types.PullRequest, types.PullResponse),
            "StreamingPull": stream(self.streaming_pull, types.StreamingPullRequest, types.StreamingPullResponse),
        }
        return grpc.method_handlers_generic_handler("google.pubsub.v1.Subscriber", methods)

    async def create(self, config: Any) -> Any:
        """ALREADY_EXISTS if it does, NOT_FOUND without its topics."""
        rules.complete_subscription(config)
        if config.name in self._broker.subscriptions:
            raise rules.already_exists(config.name)
        self._check_topics(config)
        await self._broker.create_subscription(config)
        return config

    def _check_topics(self, config: Any) -> None:
        if config.topic != rules.DELETED_TOPIC:
            self._broker.topic(config.topic)
        if config.HasField("dead_letter_policy"):
            self._broker.topic(config.dead_letter_policy.dead_letter_topic)

    async def get(self, request: Any) -> Any:
        """One subscription."""
        return self._named(request.subscription).config

    def _named(self, name: str) -> Subscription:
        rules.check_name("subscriptions", name)
        return self._broker.subscription(name)

    async def update(self, request: Any) -> Any:
        """The fields of the mask, and no other."""
        subscription = self._named(request.subscription.name)
        config = _copy(subscription.config)
        rules.merge("subscriptions", request.update_mask, request.subscription, config)
        rules.complete_subscription(config)
        self._check_topics(config)
        await self._broker.configure(subscription, config)
        return config

    async def list(self, request: Any) -> Any:
        """Those of one project, by name."""
        rules.check_name("project", request.project)
        mine = [name for name in self._broker.subscriptions if name.startswith(f"{request.project}/")]
        names, token = page(mine, request)
        configs = [self._broker.subscriptions[name].config for name in names]
        return types.ListSubscriptionsResponse.pb()(subscriptions=configs, next_page_token=token)

    async def delete(self, request: Any) -> None:
        """With what it had still to deliver."""
        await self._broker.delete_subscription(self._named(request.subscription))

    async def modify_push(self, request: Any) -> None:
        """From push to pull and back, or to another endpoint."""
        subscription = self._named(request.subscription)
        rules.check_push(request.push_config)
        config = _copy(subscription.config)
        config.push_config.CopyFrom(request.push_config)
        await self._broker.configure(subscription, config)

    async def modify_deadline(self, request: Any) -> None:
        """0 seconds: it failed, and comes again."""
        seconds = [request.ack_deadline_seconds] * len(request.ack_ids)
        await modify_deadlines(self._broker, self._named(request.subscription), request.ack_ids, seconds)

    async def acknowledge(self, request: Any) -> None:
        """Done."""
        await acknowledge(self._broker, self._named(request.subscription), request.ack_ids)

    async def pull(self, request: Any) -> Any:
        """What is due; if nothing is, what becomes so within some seconds."""
        subscription = self._named(request.subscription)
        if request.max_messages < 1:
            raise rules.invalid("max_messages must be at least 1.")
        until = time.monotonic() + (0 if request.return_immediately else PULL_SECONDS)
        while True:
            changed = subscription.changed
            limit = min(MAX_PULLED, request.max_messages)
            taken = self._broker.take(subscription, limit, subscription.lease_ms)
            left_ms = int((until - time.monotonic()) * 1000)
            if taken or left_ms <= 0 or self._broker.closing or subscription.deleted:
                return types.PullResponse.pb()(received_messages=received(self._broker, subscription, taken))
            await self._broker.wait(subscription, changed, left_ms)

    async def streaming_pull(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """The first request names the subscription; the others acknowledge."""
        first = await anext(requests, None)
        if first is None:
            return
        pulling = Stream(self._broker, self._named(first.subscription), first)
        async for answer in pulling.run(requests):
            yield answer


def _copy(config: Any) -> Any:
    copy = types.Subscription.pb()()
    copy.CopyFrom(config)
    return copy
