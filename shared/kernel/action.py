"""Endpoints as live actions: called from a socket, by name, with their path, query and body fields in one map.

The handler is that of HTTP, and so are validation, limits, sessions and problems.
"""

import asyncio
from collections import defaultdict
from functools import lru_cache, partial
from typing import Any, Final

import msgspec

from shared.kernel import codec, events, guard
from shared.kernel.config import settings
from shared.kernel.endpoint import Caller, Endpoint, read_path_parameter
from shared.kernel.problems import FieldError, Invalid

# As over HTTP: an endpoint that waits for a slow store keeps no other out of the connections to it.
_places: Final = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(settings().db_pool_size))


async def call(endpoint: Endpoint, caller: Caller, data: dict[str, Any]) -> Any:
    """What the endpoint answers: a struct, Encoded, or None. Raises Problem."""

    async def read() -> dict[str, Any]:
        return {endpoint.auth: caller, **_arguments(endpoint, data)}

    result = await guard.guarded(guard.of(caller, endpoint.limit), endpoint, read)
    if endpoint.is_async:
        return result
    async with _places[endpoint.name]:
        return await events.perform(partial(endpoint.function, **result))


def _arguments(endpoint: Endpoint, data: dict[str, Any]) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    errors: list[FieldError] = []
    rest = dict(data)
    for name, kind in endpoint.path_parameters.items():
        text = rest.pop(name, None)
        if isinstance(text, str):
            arguments[name] = read_path_parameter(kind, text)
        elif text is None:
            errors.append(FieldError(name, "missing", "This field is required."))
        else:
            errors.append(FieldError(name, "wrong_type", "Expected a string."))
    if endpoint.query is not None:
        query = {name: rest.pop(name) for name in _names(endpoint.query) if name in rest}
        _convert("query", query, endpoint.query, arguments, errors)
    if endpoint.body is not None:
        _convert("body", rest, endpoint.body, arguments, errors)
    else:
        errors += [
            FieldError(name[:100], "unknown_field", "There is no such field.") for name in sorted(map(str, rest))
        ]
    if errors:
        raise Invalid(errors[: codec.MAX_FAULTS])
    return arguments


def _convert(name: str, raw: dict[str, Any], kind: Any, arguments: dict[str, Any], errors: list[FieldError]) -> None:
    try:
        arguments[name] = codec.convert(raw, kind)
    except Invalid as invalid:
        errors += invalid.errors or []


@lru_cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(field.encode_name for field in msgspec.structs.fields(kind))
