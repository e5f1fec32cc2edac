"""Pub/Sub's Publisher service: topics, and what is published to them."""

from typing import Any

import grpc
from google.pubsub_v1 import types

from infra.local import pubsub_rules as rules
from infra.local.pubsub_broker import Broker
from infra.local.pubsub_grpc import page, unary
from infra.local.pubsub_store import Message


class Publisher:
    """The service's methods, each for one call. They raise Refused."""

    def __init__(self, broker: Broker):
        self._broker = broker

    def handler(self) -> grpc.GenericRpcHandler:
        """For a grpc.aio server."""
        methods = {
            "CreateTopic": unary(self.create, types.Topic, types.Topic),
            "GetTopic": unary(self.get, types.GetTopicRequest, types.Topic),
            "UpdateTopic": unary(self.update, types.UpdateTopicRequest, types.Topic),
            "ListTopics": unary(self.list, types.ListTopicsRequest, types.ListTopicsResponse),
            "ListTopicSubscriptions": unary(
                self.list_subscriptions, types.ListTopicSubscriptionsRequest, types.ListTopicSubscriptionsResponse
            ),
            "DeleteTopic": unary(self.delete, types.DeleteTopicRequest),
            "Publish": unary(self.publish, types.PublishRequest, types.PublishResponse),
        }
        return grpc.method_handlers_generic_handler("google.pubsub.v1.Publisher", methods)

    async def create(self, config: Any) -> Any:
        """ALREADY_EXISTS if it does."""
        rules.check_topic(config)
        if config.name in self._broker.topics:
            raise rules.already_exists(config.name)
        await self._broker.put_topic(config)
        return config

    async def get(self, request: Any) -> Any:
        """One topic."""
        rules.check_name("topics", request.topic)
        return self._broker.topic(request.topic)

    async def update(self, request: Any) -> Any:
        """The fields of the mask, and no other."""
        rules.check_name("topics", request.topic.name)
        config = types.Topic.pb()()
        config.CopyFrom(self._broker.topic(request.topic.name))
        rules.merge("topics", request.update_mask, request.topic, config)
        rules.check_topic(config)
        await self._broker.put_topic(config)
        return config

    async def list(self, request: Any) -> Any:
        """Those of one project, by name."""
        rules.check_name("project", request.project)
        mine = [name for name in self._broker.topics if name.startswith(f"{request.project}/")]
        names, token = page(mine, request)
        return types.ListTopicsResponse.pb()(
            topics=[self._broker.topics[name] for name in names], next_page_token=token
        )

    async def list_subscriptions(self, request: Any) -> Any:
        """The names of a topic's subscriptions."""
        rules.check_name("topics", request.topic)
        self._broker.topic(request.topic)
        mine = [name for name, one in self._broker.subscriptions.items() if one.config.topic == request.topic]
        names, token = page(mine, request)
        return types.ListTopicSubscriptionsResponse.pb()(subscriptions=names, next_page_token=token)

    async def delete(self, request: Any) -> None:
        """Its subscriptions stay."""
        rules.check_name("topics", request.topic)
        self._broker.topic(request.topic)
        await self._broker.delete_topic(request.topic)

    async def publish(self, request: Any) -> Any:
        """Answers when all of it is committed."""
        rules.check_name("topics", request.topic)
        self._broker.topic(request.topic)
        rules.check_messages(request.messages)
        messages = [Message(request.topic, m.data, dict(m.attributes), m.ordering_key) for m in request.messages]
        ids = await self._broker.publish(messages)
        return types.PublishResponse.pb()(message_ids=map(str, ids))
