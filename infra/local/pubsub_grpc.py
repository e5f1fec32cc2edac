"""Pub/Sub's Publisher and Subscriber over gRPC, on the message types of google-cloud-pubsub, with no generated code."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from google.pubsub_v1 import types

from infra.local.pubsub_push import Chaos
from infra.local.pubsub_store import Delivery, Store

POLL_SECONDS = 0.05
PULL_SECONDS = 2.0
STREAM_BATCH = 100
MAX_MESSAGE = 10 * 1024 * 1024


class Broker:
    """The state behind both services: what is configured, in memory and in the store."""

    def __init__(self, store: Store, chaos: Chaos, published: Callable[[], None]):
        self.store = store
        self.chaos = chaos
        self.published = published
        self.topics: dict[str, Any] = {name: types.Topic.deserialize(config) for name, config in store.topics().items()}
        self.subscriptions: dict[str, Any] = {
            name: types.Subscription.deserialize(config) for name, (_, config) in store.subscriptions().items()
        }
        self._arriving: list[tuple[list[tuple[str, bytes, dict[str, str], str]], asyncio.Future[list[int]]]] = []

    async def publish(self, messages: list[tuple[str, bytes, dict[str, str], str]]) -> list[int]:
        """Keep messages; those that come in one turn of the loop share a commit."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[int]] = loop.create_future()
        if not self._arriving:
            loop.call_soon(self._commit)
        self._arriving.append((messages, future))
        return await future

    def _commit(self) -> None:
        arriving, self._arriving = self._arriving, []
        try:
            ids = iter(self.store.publish([one for many, _ in arriving for one in many], self.chaos.delay))
        except Exception as fault:
            for _, future in arriving:
                future.set_exception(fault)
            return
        for many, future in arriving:
            mine = [next(ids) for _ in many]
            if not future.done():
                future.set_result(mine)
        self.published()

    def topic(self, name: str) -> types.Topic:
        """The topic. Raises Refused NOT_FOUND."""
        if name not in self.topics:
            raise Refused(grpc.StatusCode.NOT_FOUND, f"Topic not found (resource={name.rpartition('/')[2]}).")
        return self.topics[name]

    def subscription(self, name: str) -> types.Subscription:
        """The subscription. Raises Refused NOT_FOUND."""
        if name not in self.subscriptions:
            raise Refused(grpc.StatusCode.NOT_FOUND, f"Subscription does not exist (resource={name}).")
        return self.subscriptions[name]

    def keep(self, subscription: types.Subscription) -> None:
        """Make or change a subscription."""
        self.store.put_subscription(subscription.name, subscription.topic, types.Subscription.serialize(subscription))
        self.subscriptions[subscription.name] = subscription
        self.published()


class Refused(Exception):
    """An RPC that fails, with its status."""

    def __init__(self, code: grpc.StatusCode, detail: str):
        super().__init__(detail)
        self.code = code


def handlers(broker: Broker) -> list[grpc.GenericRpcHandler]:
    """The services, for a grpc.aio server."""
    publisher = {
        "CreateTopic": _unary(types.Topic, types.Topic, lambda r: _create_topic(broker, r)),
        "GetTopic": _unary(types.GetTopicRequest, types.Topic, lambda r: _at_once(broker.topic(r.topic))),
        "UpdateTopic": _unary(types.UpdateTopicRequest, types.Topic, lambda r: _update_topic(broker, r)),
        "ListTopics": _unary(types.ListTopicsRequest, types.ListTopicsResponse, lambda r: _list_topics(broker)),
        "ListTopicSubscriptions": _unary(
            types.ListTopicSubscriptionsRequest,
            types.ListTopicSubscriptionsResponse,
            lambda r: _list_topic_subscriptions(broker, r),
        ),
        "DeleteTopic": _unary(types.DeleteTopicRequest, None, lambda r: _delete_topic(broker, r)),
        "Publish": _unary(types.PublishRequest, types.PublishResponse, lambda r: _publish(broker, r)),
    }
    subscriber = {
        "CreateSubscription": _unary(types.Subscription, types.Subscription, lambda r: _create_subscription(broker, r)),
        "GetSubscription": _unary(
            types.GetSubscriptionRequest, types.Subscription, lambda r: _at_once(broker.subscription(r.subscription))
        ),
        "UpdateSubscription": _unary(
            types.UpdateSubscriptionRequest, types.Subscription, lambda r: _update_subscription(broker, r)
        ),
        "ListSubscriptions": _unary(
            types.ListSubscriptionsRequest, types.ListSubscriptionsResponse, lambda r: _list_subscriptions(broker)
        ),
        "DeleteSubscription": _unary(types.DeleteSubscriptionRequest, None, lambda r: _delete_subscription(broker, r)),
        "ModifyPushConfig": _unary(types.ModifyPushConfigRequest, None, lambda r: _modify_push(broker, r)),
        "ModifyAckDeadline": _unary(types.ModifyAckDeadlineRequest, None, lambda r: _modify_deadline(broker, r)),
        "Acknowledge": _unary(types.AcknowledgeRequest, None, lambda r: _acknowledge(broker, r)),
        "Pull": _unary(types.PullRequest, types.PullResponse, lambda r: _pull(broker, r)),
        "StreamingPull": grpc.stream_stream_rpc_method_handler(
            lambda requests, context: _streaming_pull(broker, requests, context),
            request_deserializer=types.StreamingPullRequest.deserialize,
            response_serializer=types.StreamingPullResponse.serialize,
        ),
    }
    return [
        grpc.method_handlers_generic_handler("google.pubsub.v1.Publisher", publisher),
        grpc.method_handlers_generic_handler("google.pubsub.v1.Subscriber", subscriber),
    ]


def _unary(request: Any, response: Any, call: Callable[[Any], Awaitable[Any]]) -> grpc.RpcMethodHandler:
    async def serve(message: Any, context: Any) -> Any:
        try:
            return await call(message)
        except Refused as refused:
            await context.abort(refused.code, str(refused))

    serializer = Empty.SerializeToString if response is None else response.serialize
    return grpc.unary_unary_rpc_method_handler(
        serve, request_deserializer=request.deserialize, response_serializer=serializer
    )


async def _at_once(value: Any) -> Any:
    return value


async def _create_topic(broker: Broker, topic: types.Topic) -> types.Topic:
    if topic.name in broker.topics:
        raise Refused(grpc.StatusCode.ALREADY_EXISTS, f"Topic already exists (resource={topic.name}).")
    parts = topic.name.split("/")
    if len(parts) != 4 or parts[0] != "projects" or parts[2] != "topics" or len(parts[3]) < 3:
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"Invalid topic name: {topic.name}")
    broker.store.put_topic(topic.name, types.Topic.serialize(topic))
    broker.topics[topic.name] = topic
    return topic


async def _update_topic(broker: Broker, request: types.UpdateTopicRequest) -> types.Topic:
    topic = broker.topic(request.topic.name)
    for path in request.update_mask.paths:
        setattr(topic, path, getattr(request.topic, path))
    broker.store.put_topic(topic.name, types.Topic.serialize(topic))
    return topic


async def _list_topics(broker: Broker) -> types.ListTopicsResponse:
    return types.ListTopicsResponse(topics=list(broker.topics.values()))


async def _list_topic_subscriptions(
    broker: Broker, request: types.ListTopicSubscriptionsRequest
) -> types.ListTopicSubscriptionsResponse:
    broker.topic(request.topic)
    names = [name for name, one in broker.subscriptions.items() if one.topic == request.topic]
    return types.ListTopicSubscriptionsResponse(subscriptions=names)


async def _delete_topic(broker: Broker, request: types.DeleteTopicRequest) -> Empty:
    broker.topic(request.topic)
    broker.store.drop_topic(request.topic)
    del broker.topics[request.topic]
    return Empty()


async def _publish(broker: Broker, request: types.PublishRequest) -> types.PublishResponse:
    broker.topic(request.topic)
    if not request.messages or any(not m.data and not m.attributes for m in request.messages):
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "A message needs data or attributes.")
    messages = [(request.topic, m.data, dict(m.attributes), m.ordering_key) for m in request.messages]
    return types.PublishResponse(message_ids=[str(i) for i in await broker.publish(messages)])


async def _create_subscription(broker: Broker, subscription: types.Subscription) -> types.Subscription:
    if subscription.name in broker.subscriptions:
        raise Refused(grpc.StatusCode.ALREADY_EXISTS, f"Subscription already exists (resource={subscription.name}).")
    broker.topic(subscription.topic)
    subscription.ack_deadline_seconds = subscription.ack_deadline_seconds or 10
    broker.keep(subscription)
    return subscription


async def _update_subscription(broker: Broker, request: types.UpdateSubscriptionRequest) -> types.Subscription:
    subscription = broker.subscription(request.subscription.name)
    for path in request.update_mask.paths:
        setattr(subscription, path, getattr(request.subscription, path))
    broker.keep(subscription)
    return subscription


async def _list_subscriptions(broker: Broker) -> types.ListSubscriptionsResponse:
    return types.ListSubscriptionsResponse(subscriptions=list(broker.subscriptions.values()))


async def _delete_subscription(broker: Broker, request: types.DeleteSubscriptionRequest) -> Empty:
    broker.subscription(request.subscription)
    broker.store.drop_subscription(request.subscription)
    del broker.subscriptions[request.subscription]
    return Empty()


async def _modify_push(broker: Broker, request: types.ModifyPushConfigRequest) -> Empty:
    subscription = broker.subscription(request.subscription)
    subscription.push_config = request.push_config
    broker.keep(subscription)
    return Empty()


async def _modify_deadline(broker: Broker, request: types.ModifyAckDeadlineRequest) -> Empty:
    broker.subscription(request.subscription)
    broker.store.lease(request.subscription, map(int, request.ack_ids), request.ack_deadline_seconds)
    return Empty()


async def _acknowledge(broker: Broker, request: types.AcknowledgeRequest) -> Empty:
    broker.subscription(request.subscription)
    broker.store.acknowledge(request.subscription, map(int, request.ack_ids))
    return Empty()


async def _pull(broker: Broker, request: types.PullRequest) -> types.PullResponse:
    subscription = broker.subscription(request.subscription)
    until = time.monotonic() + PULL_SECONDS
    while True:
        due = broker.store.take_due(
            request.subscription, max(1, request.max_messages), subscription.ack_deadline_seconds
        )
        if due or time.monotonic() > until:
            return types.PullResponse(received_messages=[_received(one) for one in due])
        await asyncio.sleep(POLL_SECONDS)


async def _streaming_pull(
    broker: Broker, requests: AsyncIterator[types.StreamingPullRequest], context: Any
) -> AsyncIterator[types.StreamingPullResponse]:
    first = await anext(requests)
    if first.subscription not in broker.subscriptions:
        await context.abort(grpc.StatusCode.NOT_FOUND, f"Subscription does not exist (resource={first.subscription}).")
    name, seconds = first.subscription, first.stream_ack_deadline_seconds or 10

    async def listen() -> None:
        async for request in requests:
            broker.store.acknowledge(name, map(int, request.ack_ids))
            for ack_id, deadline in zip(request.modify_deadline_ack_ids, request.modify_deadline_seconds, strict=True):
                broker.store.lease(name, [int(ack_id)], deadline)

    listening = asyncio.create_task(listen())
    try:
        while not listening.done():
            due = broker.store.take_due(name, STREAM_BATCH, seconds)
            if due:
                yield types.StreamingPullResponse(received_messages=[_received(one) for one in due])
            else:
                await asyncio.sleep(POLL_SECONDS)
    finally:
        listening.cancel()


def _received(one: Delivery) -> types.ReceivedMessage:
    seconds = int(one.published_at)
    message = types.PubsubMessage(
        data=one.data,
        attributes=one.attributes,
        message_id=str(one.id),
        ordering_key=one.ordering_key,
        publish_time={"seconds": seconds, "nanos": int((one.published_at - seconds) * 1e9)},
    )
    return types.ReceivedMessage(ack_id=str(one.id), message=message, delivery_attempt=one.attempts)
