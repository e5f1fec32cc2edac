"""What a client asks over its socket, and the reply to it: what concerns the socket, and endpoints as actions."""

import logging
import time
from typing import TYPE_CHECKING, Any

import msgspec

from realtime_service.frames import encode
from realtime_service.protocol import ACTIONS, Nothing, Pong, Request, Resume, Subscribed, Topics, Typing
from shared.kernel import action, clock, codec, guard, http, ledger, log
from shared.kernel.endpoint import Caller, Encoded, Username, read_path_parameter
from shared.kernel.problems import InternalError, Problem, TooManyRequests, Unauthorized, Unreadable
from shared.presence import actions as presence

if TYPE_CHECKING:
    from realtime_service.connection import Connection


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


def refuse(connection: "Connection", request: dict[str, Any]) -> bytes:
    """The frame with the reply to one request more than may wait."""
    problem = TooManyRequests(1, "too_many_waiting", "Wait until what you asked before has been answered.")
    reply = {"reply_to": request["id"], "ok": False, "error": problem.document(http.new_request_id())}
    return encode(reply, connection.format)


async def _act(connection: "Connection", name: str, data: dict[str, Any]) -> Any:
    if name == "ping":
        codec.convert(data, Nothing)
        return Pong(clock.now_ms())
    if name == "resume":
        return await connection.resume(codec.convert(data, Resume).after)
    caller = Caller(connection.user_id, connection.session_id)
    if name == "subscribe":
        wanted = codec.convert(data, Topics)
        await guard.of(caller, "read").ask()
        await connection.subscriptions.subscribe(connection, wanted.topics)
        return Subscribed(sorted(connection.topics))
    if name == "unsubscribe":
        connection.subscriptions.unsubscribe(connection, codec.convert(data, Topics).topics)
        return Subscribed(sorted(connection.topics))
    if name == "typing":
        typed = codec.convert(data, Typing)
        await guard.of(caller, "read").ask()
        await presence.tell_typing(caller, Username(str(read_path_parameter(Username, typed.to))), on=typed.on)
        return Nothing()
    if name not in ACTIONS:
        raise Unreadable("unknown_action", "There is no such action.")
    result = await action.call(ACTIONS[name], caller, data)
    if not isinstance(result, Encoded):
        return result
    return msgspec.Raw(result.json) if connection.format == "json" else msgspec.json.decode(result.json)
