"""Events: what happened, told to background functions through the outbox and Pub/Sub.

An event is a frozen msgspec Struct under `Event`; its topic is its name in snake case. `emit` puts it in the outbox
in the caller's transaction; the relay publishes it after the commit. `@on` declares the function that hears it.
"""

import base64
import inspect
import logging
import re
import typing
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, TypeVar

import msgspec

from shared.kernel import cache, clock, db, ledger, log

NUDGE_CHANNEL: Final = "relay:nudge"
_CAPITAL: Final = re.compile(r"(?<!^)(?=[A-Z])")


class Event(msgspec.Struct, frozen=True):
    """Something that happened and was committed."""

    topic: ClassVar[str] = "event"

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.topic = _CAPITAL.sub("_", cls.__name__).lower()


class Reaction(msgspec.Struct, frozen=True):
    """A background function, as declared: its name, the events it hears, when to give up."""

    name: str
    function: Callable[[Any], None]
    events: tuple[type[Event], ...]
    max_attempts: int


REACTIONS: Final[dict[str, Reaction]] = {}
F = TypeVar("F", bound=Callable[..., None])

_INSERT: Final = db.Statement(
    """INSERT INTO outbox (topic, payload, trace, created_at)
       SELECT topic, payload, :trace, :now
         FROM unnest(CAST(:topics AS text[]), CAST(:payloads AS bytea[])) AS e (topic, payload)"""
)


def on(*events: type[Event], max_attempts: int = 12) -> Callable[[F], F]:
    """Declare a background function for `events`: called at least once for each, in any order.

    It raises what went wrong; the event comes again with growing delays, and is a dead letter after `max_attempts`.
    """

    def register(function: F) -> F:
        REACTIONS[function.__name__] = Reaction(function.__name__, function, events, max_attempts)
        return function

    return register


def encode(event: Event) -> bytes:
    """The payload of an event."""
    return msgspec.json.encode(event)


def emit(conn: db.Connection, *events: Event) -> None:
    """Put events in the outbox, in the transaction of `conn`. One statement however many."""
    if events:
        _INSERT.run(
            conn,
            topics=[event.topic for event in events],
            payloads=[encode(event) for event in events],
            trace=log.trace_id.get() or None,
            now=clock.now_ms(),
        )


def nudge() -> cache.Command:
    """The command that wakes the relay; it looks every 200 ms without."""
    return ("PUBLISH", NUDGE_CHANNEL, "1")


def handle(reaction: Reaction, message: dict[str, Any]) -> None:
    """Call a background function with a Pub/Sub message as Eventarc delivers it. Raises what it raises."""
    attributes = message.get("attributes") or {}
    kinds = {event.topic: event for event in reaction.events}
    kind = kinds.get(attributes.get("type", ""))
    if kind is None:
        raise LookupError(f"{reaction.name} hears no {attributes.get('type')!r}")
    log.trace_id.set(attributes.get("trace", ""))
    event = msgspec.json.decode(base64.b64decode(message.get("data", "")), type=kind)
    trips = ledger.open_ledger()
    reaction.function(event)
    logging.getLogger("events").info(
        "%s handled %s",
        reaction.name,
        kind.topic,
        extra={"event_id": attributes.get("event_id"), "ledger": _counts(trips)},
    )


def _counts(trips: ledger.Ledger) -> dict[str, int]:
    return {store: entry.trips for store, entry in trips.items()}


def as_cloud_event_function(reactions: Sequence[Reaction], name: str) -> Callable[[Any], None]:
    """The function that the framework calls with a CloudEvent, for one background function or as router of many.

    A router finds the function in the subscription's name, `{topic}--{function}`.
    """
    import functions_framework

    by_name = {reaction.name: reaction for reaction in reactions}

    def receive(cloud_event: Any) -> None:
        data = cloud_event.data
        if len(by_name) == 1:
            (reaction,) = by_name.values()
        else:
            reaction = by_name[str(data["subscription"]).rpartition("--")[2]]
        handle(reaction, data["message"])

    receive.__name__ = receive.__qualname__ = name
    receive.__doc__ = inspect.getdoc(reactions[0].function) if len(reactions) == 1 else "Every background function."
    return typing.cast("Callable[[Any], None]", functions_framework.cloud_event(receive))
