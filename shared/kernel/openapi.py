"""The OpenAPI 3.1 document, made from the registry: nothing of an endpoint is written down twice."""

import re
import typing
from collections.abc import Iterable
from functools import cache
from http import HTTPStatus
from typing import Any, Final

import msgspec

from shared.kernel import codec, ids
from shared.kernel.endpoint import ENDPOINTS, Endpoint, Username, WithCookie
from shared.kernel.limits import QUOTAS
from shared.kernel.problems import FieldError
from shared.kernel.tokens import COOKIE_NAME

PATH: Final = "/openapi.json"
VERSION: Final = "1"
Schema = dict[str, Any]

_SCHEMAS: Final = "#/components/schemas/{name}"
# msgspec names `Page[Post]` Page_Post_.
_GENERIC: Final = re.compile(r"\bPage_(\w+?)_(?=\")")
_ABOUT: Final = """A social network's API.

Bodies are JSON or MessagePack, chosen by `Content-Type` and `Accept`; both carry the same fields. Ids are opaque
strings, instants are milliseconds since the epoch, UTC. Fields and parameters that are not named here are refused.
Every error is a problem document (RFC 9457) with a stable `code`. Lists are paged by `limit` and `cursor`, which
is of one list, may be as long as 7 KB, and shows each item once, whatever comes, goes and moves meanwhile
(in lists whose items move, the first thousand).
With the session cookie instead of a bearer token, what changes something needs an `Origin` (or `Sec-Fetch-Site`)
of ours."""
_WHEN: Final = {
    400: "The body can't be read, or nests too deep.",
    401: "Not signed in, or no longer.",
    403: "Signed in, but not allowed; or the cookie came from another site.",
    404: "Absent, or hidden from you.",
    406: "None of the media types asked for is spoken here.",
    409: "At odds with what is there, or the first request under this key is still running.",
    413: "The body is over 1 MiB.",
    415: "The body is of a media type that isn't spoken here.",
    422: "Readable but wrong: `errors` names every bad field.",
    429: "Over the rate limit.",
    500: "A fault of ours.",
    503: "A store that this needs is down.",
}


@cache
def encoded() -> bytes:
    """The document of all endpoints loaded, as JSON; made once a process."""
    return msgspec.json.encode(document(ENDPOINTS.values()))


def document(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """The document of these endpoints."""
    listed = sorted(endpoints, key=lambda one: (one.path, one.method))
    made_of, components = schemas(kind for one in listed for kind in kinds_of(one))
    paths: dict[str, dict[str, Any]] = {}
    for one in listed:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, made_of, components)
    made = {
        "openapi": "3.1.0",
        "info": {"title": "i9lyfe", "version": VERSION, "description": _ABOUT},
        "tags": [{"name": feature} for feature in sorted({one.feature for one in listed})],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {str(status): _problem_response(status) for status in _WHEN},
            "headers": _headers(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": COOKIE_NAME},
            },
        },
    }
    return with_plain_names(made)


def with_plain_names(document: dict[str, Any]) -> dict[str, Any]:
    """The document, with components of generic types named as one would."""
    return msgspec.json.decode(_GENERIC.sub(r"\1Page", msgspec.json.encode(document).decode()))


def schemas(kinds: Iterable[Any]) -> tuple[dict[int, Schema], dict[str, Schema]]:
    """The schema of each type by its id, and the components that they refer to; with those of a problem."""
    by_id = {id(kind): kind for kind in (FieldError, *kinds)}
    made, components = msgspec.json.schema_components(by_id.values(), ref_template=_SCHEMAS)
    return dict(zip(by_id, made, strict=True)), {**components, "Problem": _problem_schema()}


def kinds_of(one: Endpoint) -> list[Any]:
    """The types that an endpoint names: body, query, answer."""
    answer = None if one.status == HTTPStatus.NO_CONTENT else one.answer
    return [kind for kind in (one.body, one.query, answer) if kind is not None]


def _operation(one: Endpoint, made_of: dict[int, Schema], components: dict[str, Schema]) -> dict[str, Any]:
    quota = QUOTAS[one.limit]
    operation: dict[str, Any] = {
        "operationId": one.name,
        "tags": [one.feature],
        "summary": one.summary,
        "description": one.description,
        "parameters": [*_path_parameters(one), *_query_parameters(one, made_of, components), *_header_parameters(one)],
        "responses": _responses(one, made_of),
        "security": _security(one),
        "x-rate-limit": {"class": one.limit, "requests": quota.requests, "seconds": quota.seconds},
    }
    if one.body is not None:
        operation["requestBody"] = {"required": True, "content": _both(made_of[id(one.body)])}
    return operation


def _security(one: Endpoint) -> list[dict[str, list[str]]]:
    signed_in: list[dict[str, list[str]]] = [{"bearer": []}, {"cookie": []}]
    return {"caller": signed_in, "viewer": [{}, *signed_in], "public": []}[one.auth]


def _path_parameters(one: Endpoint) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": of_path_parameter(kind)}
        for name, kind in one.path_parameters.items()
    ]


def of_path_parameter(kind: Any) -> Schema:
    """The schema of a path parameter of this type."""
    letters = ids.ALPHABET.replace("0123456789", "0-9")
    pattern = "^[A-Za-z0-9_.]{3,30}$" if kind is Username else f"^[{letters}]{{{ids.LENGTH}}}$"
    return {"type": "string", "pattern": pattern}


def resolved(schema: Schema, components: dict[str, Schema]) -> Schema:
    """A schema itself, where it may refer to a component."""
    return components[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def _query_parameters(one: Endpoint, made_of: dict[int, Schema], components: dict[str, Schema]) -> list[dict[str, Any]]:
    if one.query is None:
        return []
    schema = resolved(made_of[id(one.query)], components)
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": of}
        for name, of in schema["properties"].items()
    ]


def _header_parameters(one: Endpoint) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if one.method == "POST":
        about = "The same key, user and body within 24 hours replays the first answer, and does nothing twice."
        found.append(_header_parameter("Idempotency-Key", about, maxLength=255))
    if _has_etag(one):
        found.append(_header_parameter("If-None-Match", "The ETag at hand: 304 if it is still the answer's."))
    return found


def _header_parameter(name: str, description: str, **limits: int) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string", **limits}}


def _has_etag(one: Endpoint) -> bool:
    return one.method == "GET" and one.page_of is None


def _responses(one: Endpoint, made_of: dict[int, Schema]) -> dict[str, Any]:
    success: dict[str, Any] = {"description": HTTPStatus(one.status).phrase, "headers": _success_headers(one)}
    if one.status != HTTPStatus.NO_CONTENT:
        success["content"] = _both(made_of[id(one.answer)])
    answers: dict[str, Any] = {str(one.status): success}
    if _has_etag(one):
        answers["304"] = {"description": "Not modified.", "headers": _refer_to_headers("ETag", "X-Request-Id")}
    return answers | {str(status): {"$ref": f"#/components/responses/{status}"} for status in _problems_of(one)}


def _problems_of(one: Endpoint) -> list[int]:
    statuses = {406, 422, 429, 500, 503}
    if one.body is not None:
        statuses |= {400, 413, 415}
    if one.auth != "public":
        statuses |= {401, 403} if one.forbids else {401}
    if one.path_parameters or "subject" in getattr(one.body, "__struct_fields__", ()):
        statuses.add(404)
    # A comment that was deleted is read and not changed, whatever the method.
    if one.method == "POST" or (one.method != "GET" and "comment_id" in one.path_parameters):
        statuses.add(409)
    if one.limit == "sign_in":
        statuses.add(401)
    return sorted(statuses)


def _success_headers(one: Endpoint) -> dict[str, Any]:
    names = ["RateLimit", "RateLimit-Policy", "X-Request-Id"]
    if _has_etag(one):
        names.append("ETag")
    if one.method == "POST":
        names.append("Idempotent-Replayed")
    answer = typing.get_type_hints(one.function).get("return")
    if WithCookie in (answer, *typing.get_args(answer)):
        names.append("Set-Cookie")
    return _refer_to_headers(*names)


def _refer_to_headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _headers() -> dict[str, Any]:
    about = {
        "ETag": "The validator of this answer.",
        "Idempotent-Replayed": "`true` where this is the answer of an earlier request under the same key.",
        "RateLimit": "What is left of the allowance: its name, `r` requests, `t` seconds.",
        "RateLimit-Policy": "The allowance: its name, `q` requests in `w` seconds.",
        "Retry-After": "Seconds to wait.",
        "Set-Cookie": "The session cookie, encrypted; or its end.",
        "X-Request-Id": "Finds this request in the logs. A sane one in the request is taken over.",
    }
    return {name: {"description": text, "schema": {"type": "string"}} for name, text in about.items()}


def _both(schema: Schema) -> dict[str, Any]:
    return {codec.JSON_TYPE: {"schema": schema}, codec.MSGPACK_TYPE: {"schema": schema}}


def _problem_response(status: int) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    names = ["X-Request-Id"]
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        names.append("Retry-After")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        names += ["RateLimit", "RateLimit-Policy"]
    return {
        "description": _WHEN[status],
        "headers": _refer_to_headers(*names),
        "content": {"application/problem+json": {"schema": schema}, codec.MSGPACK_TYPE: {"schema": schema}},
    }


def _problem_schema() -> Schema:
    text: Schema = {"type": "string"}
    return {
        "title": "Problem",
        "description": "What went wrong (RFC 9457).",
        "type": "object",
        "properties": {
            "type": {**text, "format": "uri-reference"},
            "title": text,
            "status": {"type": "integer"},
            "detail": text,
            "instance": {**text, "format": "uri-reference"},
            "code": {**text, "description": "A stable snake_case word."},
            "errors": {"type": "array", "items": {"$ref": _SCHEMAS.format(name="FieldError")}},
            "retry_after": {"type": "integer", "description": "Seconds to wait before trying again."},
        },
        "required": ["type", "title", "status", "detail", "code"],
    }
