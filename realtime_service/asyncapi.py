"""The AsyncAPI 3.0 document of the live protocol, made from its types (realtime_service/protocol.py)."""

from collections.abc import Iterable
from functools import cache
from typing import Any, Final

import msgspec

from realtime_service.connection import MAX_ASKED
from realtime_service.frames import SUBPROTOCOLS
from realtime_service.protocol import ACTIONS, EVENTS, OWN
from realtime_service.wire import BURST, MAX_FRAME, PER_SECOND
from shared.kernel import openapi
from shared.kernel.endpoint import Endpoint
from shared.kernel.openapi import Schema

PATH: Final = "/asyncapi.json"
_CHANNEL: Final = {"$ref": "#/channels/live"}
_PROBLEM: Final = {"$ref": "#/components/schemas/Problem"}
_ABOUT: Final = f"""Live updates over one WebSocket.

Connect with one of the subprotocols {", ".join(f"`{name}`" for name in SUBPROTOCOLS)} (text frames, binary frames),
signed in by the session cookie with an `Origin` of ours, by `Authorization: Bearer`, or by a `?ticket=` from
`create_live_ticket`. Send requests `{{id, action, data}}`; each is replied to with its `id` in `reply_to`, in order.
Events of your own have a growing `seq`, and are kept for a day: reconnect, send `resume` with the greatest `seq` first,
of an event or of the answer to the last `resume`, and nothing is missed or told twice. At `resync` read over HTTP.

A frame holds at most {MAX_FRAME // 1024} KiB; {PER_SECOND:.0f} a second are taken, {BURST:.0f} at once. While
{MAX_ASKED} requests wait for one to be answered, a further one is refused at once: 429, `too_many_waiting`.
Close codes: 4400 bad frame, 4401 not signed in or session ended, 4408 idle, 4413 frame too large, 4429 too fast, 1013
slow reader, 1001 going away, with `{{"reconnect_in_ms": n}}` as the reason."""


@cache
def encoded() -> bytes:
    """The document as JSON; made once a process."""
    return msgspec.json.encode(document())


def document() -> dict[str, Any]:
    """The document."""
    kinds = [kind for one in ACTIONS.values() for kind in openapi.kinds_of(one)]
    kinds += [kind for asked, answered, _ in OWN.values() for kind in (asked, answered)]
    kinds += [event.data for event in EVENTS.values()]
    made_of, components = openapi.schemas(kinds)
    messages: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for name, (asked, answered, about) in OWN.items():
        _add(messages, operations, name, about, made_of[id(asked)], made_of[id(answered)])
    for name, one in ACTIONS.items():
        answer = {"type": "null"} if one.status == 204 else made_of[id(one.answer)]
        _add(messages, operations, name, one.description, _asked(one, made_of, components), answer)
    for name, event in EVENTS.items():
        messages[name] = _message(name, event.about, _event(name, made_of[id(event.data)], personal=event.personal))
    operations["events"] = {
        "action": "send",
        "channel": _CHANNEL,
        "summary": "What a socket is told unasked.",
        "messages": _references(EVENTS),
    }
    return openapi.with_plain_names(
        {
            "asyncapi": "3.0.0",
            "info": {"title": "i9lyfe live", "version": openapi.VERSION, "description": _ABOUT},
            "defaultContentType": "application/json",
            "channels": {
                "live": {
                    "address": "/v1/live",
                    "messages": messages,
                    "bindings": {"ws": {"query": {"type": "object", "properties": {"ticket": {"type": "string"}}}}},
                }
            },
            "operations": operations,
            "components": {"schemas": components},
        }
    )


def _add(
    messages: dict[str, Any], operations: dict[str, Any], name: str, about: str, asked: Schema, answered: Schema
) -> None:
    """An action: its request, its reply, and the operation of both."""
    request, reply = f"{name}.request", f"{name}.reply"
    asking = {"id": {"type": ["string", "integer"]}, "action": {"const": name}, "data": asked}
    messages[request] = _message(request, about, _map(asking, ["id", "action"]))
    replied = {"reply_to": {"type": ["string", "integer"]}}
    done = {**replied, "ok": {"const": True}, "data": answered}
    refused = {**replied, "ok": {"const": False}, "error": _PROBLEM}
    messages[reply] = _message(reply, "", {"oneOf": [_map(done, list(done)), _map(refused, list(refused))]})
    operations[name] = {
        "action": "receive",
        "channel": _CHANNEL,
        "summary": about.partition("\n")[0],
        "messages": _references([request]),
        "reply": {"channel": _CHANNEL, "messages": _references([reply])},
    }


def _asked(one: Endpoint, made_of: dict[int, Schema], components: dict[str, Schema]) -> Schema:
    """The path, query and body fields of an endpoint in one map."""
    properties = {name: openapi.of_path_parameter(kind) for name, kind in one.path_parameters.items()}
    required = list(properties)
    for kind in (one.query, one.body):
        if kind is not None:
            schema = openapi.resolved(made_of[id(kind)], components)
            properties |= schema["properties"]
            required += schema.get("required", [])
    return {**_map(properties, required), "additionalProperties": False}


def _event(name: str, data: Schema, *, personal: bool) -> Schema:
    instant: Schema = {"type": "integer", "description": "Milliseconds since the epoch."}
    seq: dict[str, Schema] = {"seq": {"type": "integer"}} if personal else {}
    properties = {"event": {"const": name}, **seq, "at": instant, "data": data}
    return _map(properties, list(properties))


def _map(properties: dict[str, Schema], required: list[str]) -> Schema:
    return {"type": "object", "properties": properties, "required": required}


def _message(name: str, about: str, payload: Schema) -> dict[str, Any]:
    summary = about.partition("\n")[0]
    return {"name": name, **({"summary": summary, "description": about} if about else {}), "payload": payload}


def _references(names: Iterable[str]) -> list[dict[str, str]]:
    return [{"$ref": f"{_CHANNEL['$ref']}/messages/{name}"} for name in names]
