"""`python -m infra.local.wire`: topics, push subscriptions and dead-letter topics, made from the registry.

Run again it brings what is there up to date. Against the local broker, or Google's emulator, by PUBSUB_EMULATOR_HOST.
"""

import os
from importlib import import_module
from typing import Any

from google.api_core.exceptions import AlreadyExists
from google.cloud import pubsub_v1
from google.protobuf.duration_pb2 import Duration
from google.pubsub_v1.types import DeadLetterPolicy, PushConfig, RetryPolicy, Subscription

import main
from shared.kernel.config import settings
from shared.kernel.events import REACTIONS

ACK_SECONDS = 60
RETRY_FROM = Duration(nanos=100_000_000)
RETRY_TO = Duration(seconds=30)


def dead_letter_topic(function: str) -> str:
    """The topic of what a function gave up on."""
    return f"dead-letters--{function}"


def wire(push_url: str) -> int:
    """Make all that is missing; answers how many subscriptions there are."""
    for module in main.EVENT_TARGETS:
        import_module(module)
    publisher: Any = pubsub_v1.PublisherClient()
    subscriber: Any = pubsub_v1.SubscriberClient()
    project = settings().google_cloud_project
    topics = {event.topic for reaction in REACTIONS.values() for event in reaction.events}
    for topic in sorted(topics | {dead_letter_topic(name) for name in REACTIONS}):
        try:
            publisher.create_topic(name=publisher.topic_path(project, topic))
        except AlreadyExists:
            pass  # as it should be
    wanted = [(reaction, event.topic) for reaction in REACTIONS.values() for event in reaction.events]
    for reaction, topic in wanted:
        subscription = Subscription(
            name=subscriber.subscription_path(project, f"{topic}--{reaction.name}"),
            topic=publisher.topic_path(project, topic),
            push_config=PushConfig(push_endpoint=f"{push_url}/{reaction.name}"),
            ack_deadline_seconds=ACK_SECONDS,
            retry_policy=RetryPolicy(minimum_backoff=RETRY_FROM, maximum_backoff=RETRY_TO),
            dead_letter_policy=DeadLetterPolicy(
                dead_letter_topic=publisher.topic_path(project, dead_letter_topic(reaction.name)),
                max_delivery_attempts=reaction.max_attempts,
            ),
        )
        try:
            subscriber.create_subscription(request=subscription)
        except AlreadyExists:
            fields = ["push_config", "ack_deadline_seconds", "retry_policy", "dead_letter_policy"]
            subscriber.update_subscription(request={"subscription": subscription, "update_mask": {"paths": fields}})
    return len(wanted)


if __name__ == "__main__":
    print(f"wired {wire(os.environ['PUSH_URL'])} subscriptions")
