"""What the OpenAPI document says is what the API does: requests made from it, good and bad, and each answer held to it.

Schemathesis makes the same requests each time, as many as there is time for. They are one account's, and what they name
is nobody's but a friend's of that account.
"""

import copy
import time
import zlib
from collections.abc import Callable
from typing import Any

import msgpack
import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.openapi import from_dict
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from infra import targets
from infra.local.stack import Stack
from shared.kernel import ids, openapi
from shared.kernel.endpoint import ENDPOINTS
from tests.client import MSGPACK, Person, Visitor, sign_in, sign_up

EXAMPLES = 8
SECONDS = 80.0
# They end the session that all else here is asked with.
LAST_OF_A_SESSION = {"logout", "delete_account"}
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
BOUNDED = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
        HealthCheck.data_too_large,
    ],
)

targets.load()
DOCUMENT: dict[str, Any] = msgspec.json.decode(openapi.encoded())
SCHEMA = from_dict(
    DOCUMENT,
    config=schemathesis.Config.from_dict(
        {"generation": {"with-security-parameters": False, "deterministic": True, "database": "none"}}
    ),
)


@schemathesis.serializer(MSGPACK)
def _packed(context: schemathesis.SerializationContext, value: Any) -> bytes:
    try:
        return bytes(msgpack.packb(value) or b"")
    except (OverflowError, UnicodeError):
        return b"\xc1"  # what MessagePack has no form for: the one byte that it never uses


@schemathesis.deserializer(MSGPACK)
def _unpacked(context: schemathesis.DeserializationContext, response: schemathesis.Response) -> Any:
    return msgpack.unpackb(response.content)


@pytest.fixture(scope="module")
def caller(stack: Stack) -> Person:
    return sign_up(stack)


@pytest.fixture(scope="module")
def named(stack: Stack, caller: Person) -> dict[str, Callable[[], str]]:
    """What path parameters may name: a friend, a post and a comment of the caller's own, made anew when it is gone."""
    friend = sign_up(stack)
    friend.post_photo("Of a friend")
    posts: list[str] = []

    def post() -> str:
        if not posts or caller.ask("GET", f"/v1/posts/{posts[0]}").status_code != 200:
            posts[:] = [caller.post_photo("From the document")["id"]]
        return posts[0]

    def comment() -> str:
        return caller.post(f"/v1/posts/{post()}/comments", {"text": "From the document"})["id"]

    return {
        "username": lambda: friend.username,
        "post_id": post,
        "comment_id": comment,
        "session_id": lambda: sign_in(stack, caller.username).session["id"],
        # Those there are depend on what others did: what names none is asked for.
        "notification_id": lambda: ids.encode(ids.new_id()),
        "report_id": lambda: ids.encode(ids.new_id()),
    }


_began: dict[tuple[str, str], float] = {}


def is_in_time(test: str, case: schemathesis.Case) -> bool:
    """Whether this operation has used up less than its share: there is more to ask than anyone waits for."""
    began = _began.setdefault((test, case.operation.label), time.monotonic())
    return time.monotonic() - began < SECONDS / (2 * len(ENDPOINTS))


def test_the_stack_serves_this_document(stack: Stack, visitor: Visitor) -> None:
    assert visitor.get("/openapi.json") == DOCUMENT


@SCHEMA.parametrize()
@BOUNDED
def test_signed_out(case: schemathesis.Case, stack: Stack) -> None:
    if is_in_time("signed out", case):
        vary(case)
        case.call_and_validate(base_url=stack.api, checks=CHECKS)


@SCHEMA.exclude(operation_id=list(LAST_OF_A_SESSION)).parametrize()
@BOUNDED
def test_signed_in(case: schemathesis.Case, stack: Stack, caller: Person, named: dict[str, Callable[[], str]]) -> None:
    if is_in_time("signed in", case):
        chance = vary(case)
        if case.path_parameters and chance % 2:
            case.path_parameters = {name: named[name]() for name in case.path_parameters}
        fields = {"Authorization": caller.http.headers["Authorization"]}
        case.call_and_validate(
            base_url=stack.api, headers=fields | ({"Accept": MSGPACK} if chance % 3 == 0 else {}), checks=CHECKS
        )


def vary(case: schemathesis.Case) -> int:
    """A number that is a case's own. Most lose their Idempotency-Key: few keys are made, and each is good once."""
    chance = zlib.crc32(repr((case.path_parameters, case.query, case.body)).encode())
    if chance % 5:
        case.headers.pop("Idempotency-Key", None)
    return chance


def mutated(change: Callable[[dict[str, Any]], None]) -> schemathesis.BaseSchema:
    """The document with something false in it."""
    document = copy.deepcopy(DOCUMENT)
    change(document)
    return from_dict(document)


def without_401(document: dict[str, Any]) -> None:
    del document["paths"]["/v1/me"]["get"]["responses"]["401"]


def with_a_field_that_is_not_there(document: dict[str, Any]) -> None:
    document["components"]["schemas"]["Problem"]["required"].append("remedy")


def in_another_media_type(document: dict[str, Any]) -> None:
    document["components"]["responses"]["401"]["content"] = {"text/html": {}}


@pytest.mark.parametrize("change", [without_401, with_a_field_that_is_not_there, in_another_media_type])
def test_a_false_document_is_found(stack: Stack, change: Callable[[dict[str, Any]], None]) -> None:
    case = mutated(change)["/v1/me"]["GET"].Case()
    with pytest.raises(schemathesis.errors.FailureGroup):
        case.call_and_validate(base_url=stack.api, checks=CHECKS)
