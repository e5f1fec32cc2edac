"""How a function of ours becomes a gRPC method, on google-cloud-pubsub's message types and with no generated code."""

import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError

from infra.local.pubsub_rules import MAX_REQUEST_BYTES, Refused

log = logging.getLogger("pubsub")
OPTIONS: Final = [
    ("grpc.max_receive_message_length", 2 * MAX_REQUEST_BYTES),
    ("grpc.max_send_message_length", -1),
    # Two processes on one port would each get half of the calls.
    ("grpc.so_reuseport", 0),
    # Google's clients ping their streams every 30 s; the default takes that for an attack.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
]


def unary(call: Callable[..., Awaitable[Any]], request: Any, response: Any = None) -> grpc.RpcMethodHandler:
    """`call(request)` as a method; `request` and `response` (default: Empty) are proto-plus types."""

    async def serve(message: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await call(message) or Empty()
        except Exception as fault:
            return await context.abort(*_status(fault))

    return grpc.unary_unary_rpc_method_handler(
        serve,
        request_deserializer=request.pb().FromString,
        response_serializer=(response.pb() if response else Empty).SerializeToString,
    )


def stream(
    call: Callable[[AsyncIterator[Any]], AsyncIterator[Any]], request: Any, response: Any
) -> grpc.RpcMethodHandler:
    """`call(requests)`, which yields responses, as a method."""

    async def serve(messages: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        try:
            async for answer in call(messages):
                yield answer
        except Exception as fault:
            await context.abort(*_status(fault))

    return grpc.stream_stream_rpc_method_handler(
        serve,
        request_deserializer=request.pb().FromString,
        response_serializer=response.pb().SerializeToString,
    )


def page(names: list[str], request: Any) -> tuple[list[str], str]:
    """The names of one page, sorted, and the token of the next. A token is the last name of the page before."""
    rest = sorted(name for name in names if name > request.page_token)
    size = request.page_size if 0 < request.page_size <= 1000 else 1000
    return rest[:size], rest[size - 1] if len(rest) > size else ""


def _status(fault: Exception) -> tuple[grpc.StatusCode, str]:
    if isinstance(fault, Refused):
        return fault.code, str(fault)
    if isinstance(fault, sqlite3.Error):
        return grpc.StatusCode.UNAVAILABLE, "The broker can't write to its disk."
    if isinstance(fault, DecodeError):
        return grpc.StatusCode.INVALID_ARGUMENT, "These bytes are no message."
    log.error("a call failed", exc_info=fault)
    return grpc.StatusCode.INTERNAL, "The broker has a bug; its log says more."
