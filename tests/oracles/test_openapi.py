"""What the OpenAPI document says is what the API does: requests made from it, good and bad, and each answer held to it.

Schemathesis makes the same requests each time, as many as there is time for. They are one account's, and what they name
is nobody's but a friend's of that account.
"""

import copy
import secrets
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
from schemathesis.core.parameters import ParameterLocation
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
from shared.kernel import openapi
from shared.kernel.endpoint import ENDPOINTS
from shared.moderation import actions as moderation
from tests.client import MSGPACK, Person, Visitor, sign_in, sign_up, wait_until

EXAMPLES = 8
SECONDS = 80.0
# They end the session that all else here is asked with, or the account: each is asked by somebody of its own.
LAST_OF_A_SESSION = {"logout", "change_password", "delete_account"}
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
def moderator(stack: Stack) -> Person:
    person = sign_up(stack)
    moderation.set_moderator(person.username, moderator=True)
    return person


@pytest.fixture(scope="module")
def named(stack: Stack, caller: Person) -> dict[str, Callable[[], str]]:
    """What path parameters may name: a friend, and what is the caller's own, made anew when it is gone."""
    friend = sign_up(stack)
    of_friend = friend.post_photo(f"Of a friend of @{caller.username}")["id"]
    news = wait_until(lambda: caller.get("/v1/notifications")["items"])[0]["id"]
    there: dict[str, str] = {}

    def still(kind: str, make: Callable[[], str]) -> str:
        if kind not in there or caller.ask("GET", f"/v1/{kind}/{there[kind]}").status_code != 200:
            there[kind] = make()
        return there[kind]

    def post() -> str:
        return still("posts", lambda: caller.post_photo("From the document")["id"])

    def comment() -> str:
        return still("comments", lambda: caller.post(f"/v1/posts/{post()}/comments", {"text": "Of it"})["id"])

    def message() -> str:
        body = {"client_id": secrets.token_hex(8), "content": {"type": "text", "text": "From the document"}}
        return caller.post(f"/v1/chats/{friend.username}/messages", body)["id"]

    def report() -> str:
        subject = {"type": "post", "id": of_friend}
        return caller.post("/v1/reports", {"subject": subject, "reason": "other"})["id"]

    return {
        "username": lambda: friend.username,
        "post_id": post,
        "comment_id": comment,
        "message_id": message,
        "notification_id": lambda: news,
        "session_id": lambda: sign_in(stack, caller.username).session["id"],
        "report_id": report,
    }


_began: dict[tuple[str, str], float] = {}


def is_in_time(test: str, case: schemathesis.Case) -> bool:
    """Whether this operation has used up less than its share: there is more to ask than anyone waits for."""
    began = _began.setdefault((test, case.operation.label), time.monotonic())
    return time.monotonic() - began < SECONDS / (2 * len(ENDPOINTS))


def test_every_path_parameter_may_name_what_is_there(named: dict[str, Callable[[], str]]) -> None:
    assert named.keys() == {name for one in ENDPOINTS.values() for name in one.path_parameters}


def test_the_stack_serves_this_document(stack: Stack, visitor: Visitor) -> None:
    assert visitor.get("/openapi.json") == DOCUMENT


@SCHEMA.parametrize()
@BOUNDED
def test_signed_out(case: schemathesis.Case, stack: Stack) -> None:
    if is_in_time("signed out", case):
        vary(case)
        case.call_and_validate(base_url=stack.api, checks=CHECKS)


@SCHEMA.exclude(operation_id=sorted(LAST_OF_A_SESSION)).parametrize()
@BOUNDED
def test_signed_in(
    case: schemathesis.Case, stack: Stack, caller: Person, moderator: Person, named: dict[str, Callable[[], str]]
) -> None:
    if is_in_time("signed in", case):
        # What is for moderators, every other time one asks.
        chance = vary(case)
        asks_anyone = "/reports" not in case.path or chance % 2
        ask(case, stack, caller if asks_anyone else moderator, named, chance)


@SCHEMA.include(operation_id=sorted(LAST_OF_A_SESSION)).parametrize()
@BOUNDED
def test_the_last_of_a_session(case: schemathesis.Case, stack: Stack, named: dict[str, Callable[[], str]]) -> None:
    if is_in_time("last", case):
        ask(case, stack, sign_up(stack), named, vary(case))


def ask(
    case: schemathesis.Case, stack: Stack, person: Person, named: dict[str, Callable[[], str]], chance: int
) -> None:
    """Make a request as somebody, half the time of what is there, and hold the answer to the document."""
    # A path that is meant to be bad stays so: its answer is held to that.
    is_bad = case.meta is not None and case.meta.is_negative_at(ParameterLocation.PATH)
    if case.path_parameters and chance % 2 and not is_bad:
        case.path_parameters = {name: named[name]() for name in case.path_parameters}
    fields = {"Authorization": person.http.headers["Authorization"]}
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
