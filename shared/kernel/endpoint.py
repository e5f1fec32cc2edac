"""The registry: an endpoint is one typed function under `@endpoint`, and its signature says the rest.

Parameters are known by name or type: those in the path by name; `caller: Caller` needs a signed-in user,
`viewer: Caller | None` takes visitors too; `body` and `query` are msgspec types; `client: Client` is who asks.
The annotation of the answer is its schema; None is a 204.
"""

import inspect
import re
import typing
from collections.abc import Callable
from typing import Any, Final, Literal, NewType, TypeVar

import msgspec

from shared.kernel import ids
from shared.kernel.problems import NotFound

PostId = NewType("PostId", int)
CommentId = NewType("CommentId", int)
MessageId = NewType("MessageId", int)
NotificationId = NewType("NotificationId", int)
SessionId = NewType("SessionId", int)
ReportId = NewType("ReportId", int)
Username = NewType("Username", str)

LimitClass = Literal["read", "write", "sign_in", "mail", "upload"]
_PATH_PARAMETER: Final = re.compile(r"\{(\w+)\}")
# The same whether an id can't be one or only names nothing.
_ABSENT: Final[dict[Any, str]] = {
    PostId: "post_not_found",
    CommentId: "comment_not_found",
    MessageId: "message_not_found",
    SessionId: "session_not_found",
    NotificationId: "notification_not_found",
    ReportId: "report_not_found",
}
_USERNAME: Final = re.compile(r"[a-z0-9_.]{3,30}")


class Caller(msgspec.Struct, frozen=True):
    """Who is signed in."""

    user_id: int
    session_id: int


class Client(msgspec.Struct, frozen=True):
    """Where a request comes from. `address` is an IP address, an IPv6 one cut to its /64."""

    address: str
    user_agent: str


class Encoded(msgspec.Struct, frozen=True):
    """An answer that is JSON already: cards spliced together, never decoded on the way."""

    json: bytes


class WithCookie(msgspec.Struct, frozen=True):
    """An answer that sets the session cookie to `token` (an access token), or clears it with None."""

    answer: Any
    token: str | None
    max_age: int = 0


class Endpoint(msgspec.Struct, frozen=True):
    """One endpoint, as declared. `path` has `{parameters}`; `auth` says who comes in, `forbids` that some may not."""

    name: str
    function: Callable[..., Any]
    method: str
    path: str
    status: int
    limit: LimitClass
    auth: Literal["caller", "viewer", "public"]
    forbids: bool
    path_parameters: dict[str, Any]
    body: Any
    query: Any
    takes_client: bool
    answer: Any
    is_async: bool
    is_action: bool
    json_decoder: Any
    page_of: Any

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return inspect.getdoc(self.function).split("\n")[0] if self.function.__doc__ else ""  # type: ignore[union-attr]

    @property
    def description(self) -> str:
        """The whole docstring."""
        return inspect.getdoc(self.function) or ""

    @property
    def feature(self) -> str:
        """The module it stands in: `posts`, `accounts`."""
        return self.function.__module__.rpartition(".")[2]


ENDPOINTS: Final[dict[str, Endpoint]] = {}


F = TypeVar("F", bound=Callable[..., Any])


def endpoint(
    route: str,
    *,
    status: int = 200,
    limit: LimitClass | None = None,
    answers: Any = None,
    forbids: bool = False,
    action: bool = False,
) -> Callable[[F], F]:
    """Declare an endpoint: `@endpoint("GET /v1/posts/{post_id}")`.

    `answers` is the schema where the annotation is `Encoded`. The class of rate limit is `read` for GET and `write`
    for all else unless given. `forbids` is for a GET that may answer 403; what changes something may always.
    An `action` can be called over the socket too (shared/kernel/action.py).
    """
    method, _, path = route.partition(" ")

    def register(function: F) -> F:
        hints = typing.get_type_hints(function)
        answer = hints.pop("return")
        auth: Literal["caller", "viewer", "public"] = (
            "caller" if "caller" in hints else "viewer" if "viewer" in hints else "public"
        )
        body = hints.get("body")
        shown = answers or (None if answer is type(None) else answer)
        ENDPOINTS[function.__name__] = Endpoint(
            name=function.__name__,
            function=function,
            method=method,
            path=path,
            status=204 if answer is type(None) else status,
            limit=limit or ("read" if method == "GET" else "write"),
            auth=auth,
            forbids=forbids or (auth != "public" and method != "GET"),
            path_parameters={name: hints[name] for name in _PATH_PARAMETER.findall(path)},
            body=body,
            query=hints.get("query"),
            takes_client="client" in hints,
            answer=shown,
            is_async=inspect.iscoroutinefunction(function),
            is_action=action,
            json_decoder=None if body is None else msgspec.json.Decoder(body),
            page_of=typing.get_args(shown)[0] if getattr(shown, "__name__", "") == "Page" else None,
        )
        return function

    return register


def read_path_parameter(kind: Any, text: str) -> int | str:
    """A path parameter's value. What can't be one names nothing, so it is NotFound."""
    if kind is Username:
        name = text.lower()
        if not _USERNAME.fullmatch(name):
            raise NotFound("user_not_found")
        return name
    try:
        return ids.decode(text)
    except ValueError:
        raise NotFound(_ABSENT.get(kind, "not_found")) from None
