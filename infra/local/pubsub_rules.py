"""What the real service accepts, and what it says to the rest: names, configurations, messages.

The limits are those of https://cloud.google.com/pubsub/quotas and of the API's reference. What the broker does not do
is refused as UNIMPLEMENTED: ignoring it would show only in production.
"""

import re
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import urlsplit

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from google.pubsub_v1.types import Subscription as _Subscription

MAX_REQUEST_BYTES: Final = 10 * 1024 * 1024
MAX_MESSAGES: Final = 1000
MAX_ATTRIBUTES: Final = 100
MAX_KEY_BYTES: Final = 256
MAX_VALUE_BYTES: Final = 1024
DAY_SECONDS: Final = 24 * 3600
DELETED_TOPIC: Final = "_deleted-topic_"
_ID: Final = r"(?!goog)[A-Za-z][A-Za-z0-9\-_.~+%]{2,254}"
_PROJECT: Final = r"projects/[^/\s]{1,100}"
_PATTERNS: Final = {
    "project": re.compile(_PROJECT),
    "topics": re.compile(f"{_PROJECT}/topics/{_ID}"),
    "subscriptions": re.compile(f"{_PROJECT}/subscriptions/{_ID}"),
}
_CHANGEABLE: Final = {
    "topics": {"labels", "message_storage_policy", "message_retention_duration", "kms_key_name"},
    "subscriptions": {
        "push_config",
        "ack_deadline_seconds",
        "retain_acked_messages",
        "message_retention_duration",
        "labels",
        "expiration_policy",
        "dead_letter_policy",
        "retry_policy",
    },
}
_NOT_DONE_HERE: Final = {
    "topics": ("schema_settings", "ingestion_data_source_settings", "message_transforms"),
    "subscriptions": (
        "bigquery_config",
        "cloud_storage_config",
        "bigtable_config",
        "enable_message_ordering",
        "filter",
        "enable_exactly_once_delivery",
        "message_transforms",
    ),
}


class Refused(Exception):
    """A call that fails, with its status."""

    def __init__(self, code: grpc.StatusCode, detail: str):
        super().__init__(detail)
        self.code = code


def invalid(detail: str) -> Refused:
    """A refusal as INVALID_ARGUMENT."""
    return Refused(grpc.StatusCode.INVALID_ARGUMENT, detail)


def not_found(name: str) -> Refused:
    """A refusal as NOT_FOUND."""
    return Refused(grpc.StatusCode.NOT_FOUND, f"Resource not found (resource={name.rpartition('/')[2]}).")


def already_exists(name: str) -> Refused:
    """A refusal as ALREADY_EXISTS."""
    detail = f"Resource already exists in the project (resource={name.rpartition('/')[2]})."
    return Refused(grpc.StatusCode.ALREADY_EXISTS, detail)


def check_name(kind: str, name: str) -> None:
    """`kind` is project, topics or subscriptions. Raises Refused."""
    if not _PATTERNS[kind].fullmatch(name):
        raise invalid(f"Invalid [{kind}] name: (name={name})")


def check_topic(topic: Any) -> None:
    """Raises Refused."""
    check_name("topics", topic.name)
    _refuse_what_is_not_done("topics", topic)


def complete_subscription(config: Any) -> None:
    """Fill in the defaults of a subscription's configuration, and check it. Raises Refused."""
    check_name("subscriptions", config.name)
    if config.topic != DELETED_TOPIC:
        check_name("topics", config.topic)
    _refuse_what_is_not_done("subscriptions", config)
    config.state = _Subscription.State.ACTIVE
    config.ack_deadline_seconds = config.ack_deadline_seconds or 10
    if not 10 <= config.ack_deadline_seconds <= 600:
        raise invalid("ack_deadline_seconds must be between 10 and 600.")
    if not config.HasField("message_retention_duration"):
        config.message_retention_duration.FromSeconds(7 * DAY_SECONDS)
    if not 600 <= config.message_retention_duration.ToSeconds() <= 31 * DAY_SECONDS:
        raise invalid("message_retention_duration must be between 10 minutes and 31 days.")
    if not config.HasField("expiration_policy"):
        config.expiration_policy.ttl.FromSeconds(31 * DAY_SECONDS)
    _complete_retries(config)
    check_push(config.push_config)


def _complete_retries(config: Any) -> None:
    if config.HasField("retry_policy"):
        policy = config.retry_policy
        if not policy.HasField("minimum_backoff"):
            policy.minimum_backoff.FromSeconds(10)
        if not policy.HasField("maximum_backoff"):
            policy.maximum_backoff.FromSeconds(600)
        least, most = policy.minimum_backoff.ToNanoseconds(), policy.maximum_backoff.ToNanoseconds()
        if not 0 <= least <= most <= 600_000_000_000:
            raise invalid("retry_policy: 0 s <= minimum_backoff <= maximum_backoff <= 600 s.")
    if config.HasField("dead_letter_policy"):
        policy = config.dead_letter_policy
        check_name("topics", policy.dead_letter_topic)
        policy.max_delivery_attempts = policy.max_delivery_attempts or 5
        if not 5 <= policy.max_delivery_attempts <= 100:
            raise invalid("dead_letter_policy: max_delivery_attempts must be between 5 and 100.")


def check_push(push: Any) -> None:
    """An empty one means pull. Raises Refused."""
    if push.HasField("no_wrapper"):
        raise Refused(grpc.StatusCode.UNIMPLEMENTED, "push_config.no_wrapper: pushes are wrapped in CloudEvents here.")
    if not push.push_endpoint:
        return
    try:
        url = urlsplit(push.push_endpoint)
        good = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        good = False
    if not good:
        raise invalid(f"Invalid push endpoint given (endpoint={push.push_endpoint}).")


def merge(kind: str, mask: FieldMask, given: Any, into: Any) -> None:
    """Take the fields that `mask` names from `given`. Raises Refused for those that don't exist or can't change."""
    if not mask.paths:
        raise invalid("The update_mask in the request must be set, and not be empty.")
    if not mask.IsValidForDescriptor(into.DESCRIPTOR):
        raise invalid(f"Invalid update_mask provided in the request: {', '.join(mask.paths)}.")
    if fixed := sorted({path.partition(".")[0] for path in mask.paths} - _CHANGEABLE[kind]):
        raise invalid(f"Invalid update_mask provided in the request: {', '.join(fixed)} is not mutable.")
    mask.MergeMessage(given, into, replace_message_field=True, replace_repeated_field=True)


def check_messages(messages: Iterable[Any]) -> None:
    """Raises Refused for what can't be published."""
    count = size = 0
    for message in messages:
        count += 1
        size += message.ByteSize()
        if not message.data and not message.attributes:
            raise invalid("A message must have data or attributes.")
        if len(message.attributes) > MAX_ATTRIBUTES:
            raise invalid(f"A message can have {MAX_ATTRIBUTES} attributes.")
        if len(message.ordering_key.encode()) > MAX_VALUE_BYTES:
            raise invalid("The ordering key is too long.")
        for key, value in message.attributes.items():
            if not key or len(key.encode()) > MAX_KEY_BYTES or key.startswith("goog"):
                raise invalid(f"An attribute's key is 1 to {MAX_KEY_BYTES} bytes, and does not begin with goog.")
            if len(value.encode()) > MAX_VALUE_BYTES:
                raise invalid(f"An attribute's value is up to {MAX_VALUE_BYTES} bytes.")
    if not 0 < count <= MAX_MESSAGES:
        raise invalid(f"The value for message_count is out of range: 1 to {MAX_MESSAGES}.")
    if size > MAX_REQUEST_BYTES:
        raise invalid(f"The messages of one request can have {MAX_REQUEST_BYTES} bytes.")


def _refuse_what_is_not_done(kind: str, config: Any) -> None:
    used = {field.name for field, _ in config.ListFields()}
    if here := [name for name in _NOT_DONE_HERE[kind] if name in used]:
        raise Refused(grpc.StatusCode.UNIMPLEMENTED, f"The local broker has no {', '.join(here)}.")
