"""Events: what happened, told to background functions through the outbox and Pub/Sub.

An event is a frozen msgspec Struct under `Event`; its topic is its name in snake case. `emit` puts it in the outbox
in the caller's transaction; the relay publishes it after the commit. `@on` declares the function that hears it.
"""

import asyncio
import base64
import logging
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from typing import Any, ClassVar, Final, TypeVar, cast

import msgspec

from shared.kernel import cache, clock, db, health, http, ledger, log, running
from shared.kernel.problems import MethodNotAllowed, NotFound, Problem, Unavailable, Unreadable

_log: Final = logging.getLogger("events")
# How many events one function handles at once in one process.
PLACES: Final = 8
# With delays that grow to half a minute, three quarters of an hour: an outage is no reason to give up. Pub/Sub's most.
MAX_ATTEMPTS: Final = 100
NUDGE_CHANNEL: Final = "relay:nudge"
_CAPITAL: Final = re.compile(r"(?<!^)(?=[A-Z])")


class Event(msgspec.Struct, frozen=True):
    """Something that happened and was committed."""

    topic: ClassVar[str] = "event"

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.topic = _CAPITAL.sub("_", cls.__name__).lower()


class Reaction(msgspec.Struct, frozen=True):
    """A background function, as declared: its name, the events it hears, when to give up, and where it runs."""

    name: str
    function: Callable[[Any], None]
    events: tuple[type[Event], ...]
    max_attempts: int
    in_thread: bool


REACTIONS: Final[dict[str, Reaction]] = {}
F = TypeVar("F", bound=Callable[..., None])
T = TypeVar("T")

_INSERT: Final = db.Statement(
    """INSERT INTO outbox (topic, payload, trace, created_at)
       SELECT topic, payload, :trace, :now
         FROM unnest(CAST(:topics AS text[]), CAST(:payloads AS bytea[])) AS e (topic, payload)"""
)

# Touches a row only for the first who marks the effect.
_MARK: Final = db.Statement("INSERT INTO effects_done (effect, done_at) VALUES (:effect, :now) ON CONFLICT DO NOTHING")


def on(*events: type[Event], max_attempts: int = MAX_ATTEMPTS, in_thread: bool = False) -> Callable[[F], F]:
    """Declare a background function for `events`: called at least once for each, in any order.

    It raises what went wrong; the event comes again with growing delays, and is a dead letter after `max_attempts`.
    It runs on the event loop, as actions do, or `in_thread` if it waits for more than Postgres and Redis, or computes.
    """

    def register(function: F) -> F:
        REACTIONS[function.__name__] = Reaction(function.__name__, function, events, max_attempts, in_thread)
        return function

    return register


def encode(event: Event) -> bytes:
    """The payload of an event."""
    return msgspec.json.encode(event)


def first_time(conn: db.Connection, effect: str) -> bool:
    """Mark an effect as had, in the transaction of `conn`; whether it never was before: it may happen, once."""
    return _MARK.run(conn, effect=effect, now=clock.now_ms()) > 0


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


# When the background function under way began, on `time.monotonic`; None where none is.
_begun: ContextVar[float | None] = ContextVar("begun", default=None)


def begun() -> float:
    """When the background function under way began, on `time.monotonic`: it read nothing before. Now, if none is."""
    since = _begun.get()
    return time.monotonic() if since is None else since


# What this request is to tell Redis once its work is done; None where nobody collects.
_waiting: ContextVar[list[cache.Command] | None] = ContextVar("waiting", default=None)


def after_commit(*commands: cache.Command) -> None:
    """Project what was just committed, and wake the relay. Best effort: the background functions do the same again.

    In a request it goes out before the answer: one trip for all of it.
    """
    waiting = _waiting.get()
    if waiting is not None:
        waiting += (*commands, nudge())
        return
    try:
        cache.run_sync(*commands, nudge())
    except cache.CacheUnavailable:
        pass
    except cache.ReplyError:
        _log.exception("Redis refused what was to be projected")


def undone() -> None:
    """Forget what was left for after the commit: there was none."""
    waiting = _waiting.get()
    if waiting is not None:
        waiting.clear()


async def perform(act: Callable[[], T]) -> T:
    """Run an action on the loop, and send what it left for `after_commit`."""
    waiting: list[cache.Command] = []
    _waiting.set(waiting)
    try:
        return await running.on_loop(act)
    finally:
        if waiting:
            try:
                await cache.run(*waiting)
            except cache.CacheUnavailable:
                pass
            except cache.ReplyError:
                _log.exception("Redis refused what was to be projected")


def handle(reaction: Reaction, message: dict[str, Any]) -> None:
    """Call a background function with a Pub/Sub message as Eventarc delivers it. Raises what it raises."""
    attributes: dict[str, str] = message.get("attributes") or {}
    kinds = {event.topic: event for event in reaction.events}
    kind = kinds.get(attributes.get("type", ""))
    if kind is None:
        raise LookupError(f"{reaction.name} hears no {attributes.get('type')!r}")
    began = _begun.set(time.monotonic())
    log.trace_id.set(attributes.get("trace", ""))
    event = msgspec.json.decode(base64.b64decode(message.get("data", "")), type=kind)
    trips = ledger.open_ledger()
    try:
        reaction.function(event)
    finally:
        _begun.reset(began)
    _log.info(
        "%s handled %s",
        reaction.name,
        kind.topic,
        extra={"event_id": attributes.get("event_id"), "ledger": _counts(trips)},
    )


def _counts(trips: ledger.Ledger) -> dict[str, int]:
    return {store: entry.trips for store, entry in trips.items()}


def target(name: str, reactions: Sequence[Reaction]) -> Callable[[Any], Awaitable[http.Answer]]:
    """The function that functions-framework calls with CloudEvents, for one background function or as router of many.

    It reads them itself, as `functions_framework.cloud_event` would, but answers health checks too, and tells a bad
    CloudEvent what is wrong rather than its `repr`. A router finds the function in the subscription's name,
    `{topic}--{function}`. What a function raises is a 503: the event comes again.
    """
    by_name = {reaction.name: reaction for reaction in reactions}
    places = {reaction.name: asyncio.Semaphore(PLACES) for reaction in reactions}

    async def receive(request: Any) -> http.Answer:
        incoming = http.Request(request.scope, request.receive)
        try:
            if incoming.path in health.PATHS and incoming.method in ("GET", "HEAD"):
                return await health.answer(incoming.path)
            if incoming.method != "POST":
                raise MethodNotAllowed(["POST"])
            reaction, message = _addressed(by_name, incoming, await incoming.body())
            # Each function has places of its own: one whose store is slow or down holds up no other.
            async with places[reaction.name]:
                run = running.in_thread if reaction.in_thread else running.on_loop
                await run(handle, reaction, message)
        except Problem as problem:
            return _refusal(problem)
        except Exception:
            _log.exception("background function failed", extra={"target": name})
            return _refusal(Unavailable(name))
        return http.Answer(204, b"", None)

    receive.__name__ = receive.__qualname__ = name
    return receive


def _addressed(by_name: dict[str, Reaction], incoming: http.Request, body: bytes) -> tuple[Reaction, dict[str, Any]]:
    from cloudevents import http as cloudevents
    from cloudevents.exceptions import GenericException

    headers = {field.decode("latin-1"): value.decode("latin-1") for field, value in incoming.fields.items()}
    try:
        event = cast("Any", cloudevents).from_http(headers, body)
        data = event.data
        message = data["message"]
        base64.b64decode(message.get("data", ""), validate=True)
    except (GenericException, KeyError, TypeError, AttributeError, ValueError):
        raise Unreadable("bad_cloud_event", "This is no CloudEvent with a Pub/Sub message.") from None
    function = next(iter(by_name)) if len(by_name) == 1 else str(data.get("subscription", "")).rpartition("--")[2]
    if function not in by_name:
        raise NotFound("no_such_function", "No function hears this subscription.")
    return by_name[function], message


def _refusal(problem: Problem) -> http.Answer:
    return http.Answer(problem.status, msgspec.json.encode(problem.document()), http.PROBLEM_TYPE)
