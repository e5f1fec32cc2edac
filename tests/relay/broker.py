"""What the relay's tests ask of the broker: topics, and what was published on them."""

import secrets
from collections import Counter
from typing import Any

import grpc
from google.pubsub_v1 import PublisherClient, SubscriberClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport


class Pubsub:
    """The broker, and a topic on it that nobody else uses."""

    def __init__(self, address: str, project: str):
        options = [("grpc.max_reconnect_backoff_ms", 500), ("grpc.max_receive_message_length", -1)]
        channel = grpc.insecure_channel(address, options=options)
        self._publisher = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
        self._subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
        self._project = project
        self._seen: dict[str, Counter[str]] = {}
        self.topic = self.create_topic()

    def create_topic(self, name: str = "") -> str:
        name = name or f"event_{secrets.token_hex(6)}"
        topic = self._publisher.topic_path(self._project, name)
        self._publisher.create_topic(name=topic)
        self._subscriber.create_subscription(
            name=self._subscriber.subscription_path(self._project, f"{name}--test"), topic=topic
        )
        self._seen[name] = Counter()
        return name

    def pull(self, topic: str = "") -> list[Any]:
        """Messages that have come since."""
        subscription = self._subscriber.subscription_path(self._project, f"{topic or self.topic}--test")
        received = self._subscriber.pull(
            request={"subscription": subscription, "max_messages": 1000, "return_immediately": True}
        ).received_messages
        if received:
            self._subscriber.acknowledge(subscription=subscription, ack_ids=[one.ack_id for one in received])
        return [one.message for one in received]

    def published(self, topic: str = "") -> "Counter[str]":
        """How often each event, by its number in the outbox, has been published so far."""
        seen = self._seen[topic or self.topic]
        while messages := self.pull(topic):
            seen.update(message.attributes["event_id"] for message in messages)
        return seen
