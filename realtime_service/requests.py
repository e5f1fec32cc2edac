"""What a client asks over its socket, and the reply to it: what concerns the socket, and endpoints as actions."""

import logging
import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from functions import chat, comments, posts
from realtime_service.frames import encode
from shared.kernel import action, clock, codec, guard, http, ledger, log
from shared.kernel.endpoint import ENDPOINTS, Caller, Encoded, Endpoint, Username, read_path_parameter
from shared.kernel.problems import InternalError, Problem, Unauthorized, Unreadable
from shared.presence import actions as presence

if TYPE_CHECKING:
    from realtime_service.connection import Connection

# The features whose endpoints say that they are actions.
FEATURES: Final = (posts, comments, chat)
ACTIONS: Final[dict[str, Endpoint]] = {name: one for name, one in ENDPOINTS.items() if one.is_action}


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client asks. `id` comes back with the reply."""

    id: str | int
    action: str
    data: dict[str, Any] | None = None


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The data of an action that takes none."""


class Resume(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The seq of the last event that the client has."""

    after: Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]


class Topics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names of topics: `post:<id>`, `comment:<id>`, `presence:<username>`."""

    topics: Annotated[list[Annotated[str, msgspec.Meta(max_length=60)]], msgspec.Meta(min_length=1, max_length=100)]


class Typing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """To whom one types, or does so no more."""

    to: Annotated[str, msgspec.Meta(max_length=60)]
    on: bool


async def answer(connection: "Connection", request: dict[str, Any]) -> bytes:
    """The frame with the reply. A session that has ended ends the socket after it."""
    started = time.perf_counter()
    trips = ledger.open_ledger()
    request_id = http.new_request_id()
    status = 200
    try:
        data = {} if request.get("data") is None else request["data"]
        # What is in the data is the action's to judge.
        codec.convert(request | {"data": {} if isinstance(data, dict) else data}, Request)
        reply = {"reply_to": request["id"], "ok": True, "data": await _act(connection, request["action"], data)}
    except Exception as fault:
        problem = fault if isinstance(fault, Problem) else InternalError()
        if problem is not fault:
            logging.getLogger("crash").exception("action failed", extra={"request_id": request_id})
        status = problem.status
        reply = {"reply_to": request["id"], "ok": False, "error": problem.document(request_id)}
        if isinstance(problem, Unauthorized):
            connection.close_soon(4401, "session ended")
    frame = encode(reply, connection.format)
    name = request.get("action")
    if isinstance(name, str) and name in ACTIONS:
        log.request(
            target=name,
            request_id=request_id,
            user=connection.user_id,
            method="LIVE",
            path=name,
            status=status,
            seconds=time.perf_counter() - started,
            bytes_out=len(frame),
            ledger=trips,
        )
    return frame


async def _act(connection: "Connection", name: str, data: dict[str, Any]) -> Any:
    if name == "ping":
        codec.convert(data, Nothing)
        return {"at": clock.now_ms()}
    if name == "resume":
        return await connection.resume(codec.convert(data, Resume).after)
    caller = Caller(connection.user_id, connection.session_id)
    if name == "subscribe":
        wanted = codec.convert(data, Topics)
        await guard.of(caller, "read").ask()
        await connection.subscriptions.subscribe(connection, wanted.topics)
        return {"topics": sorted(connection.topics)}
    if name == "unsubscribe":
        connection.subscriptions.unsubscribe(connection, codec.convert(data, Topics).topics)
        return {"topics": sorted(connection.topics)}
    if name == "typing":
        typed = codec.convert(data, Typing)
        await guard.of(caller, "read").ask()
        await presence.tell_typing(caller, Username(str(read_path_parameter(Username, typed.to))), on=typed.on)
        return {}
    if name not in ACTIONS:
        raise Unreadable("unknown_action", "There is no such action.")
    result = await action.call(ACTIONS[name], caller, data)
    if not isinstance(result, Encoded):
        return result
    return msgspec.Raw(result.json) if connection.format == "json" else msgspec.json.decode(result.json)
