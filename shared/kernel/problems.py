"""Problem details (RFC 9457): the one form of every error answer.

Code raises what it means (`Forbidden("not_author")`); the endpoint wrapper turns it into the document.
"""

from http import HTTPStatus
from typing import Any

import msgspec


class FieldError(msgspec.Struct, frozen=True):
    """One fault of one field. `field` is a path such as `media[0].actual`."""

    field: str
    code: str
    detail: str


class Problem(Exception):
    """An answer that is not a success."""

    status = 500

    def __init__(
        self,
        code: str,
        detail: str | None = None,
        *,
        errors: list[FieldError] | None = None,
        headers: dict[str, str] | None = None,
    ):
        super().__init__(code)
        self.code = code
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}

    def document(self, instance: str | None = None) -> dict[str, Any]:
        """The problem document as a map. `instance` identifies this occurrence (the request id)."""
        document: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "code": self.code,
            "detail": self.detail or self.code.replace("_", " ").capitalize() + ".",
        }
        if instance:
            document["instance"] = f"urn:request:{instance}"
        if self.errors is not None:
            document["errors"] = [msgspec.structs.asdict(e) for e in self.errors]
        if "Retry-After" in self.headers:
            document["retry_after"] = int(self.headers["Retry-After"])  # a live reply has no headers
        return document


class Unreadable(Problem):
    """400: the body or a header can't be read."""

    status = 400


class Unauthorized(Problem):
    """401: not signed in."""

    status = 401

    def __init__(self, code: str = "not_signed_in", detail: str | None = None):
        super().__init__(code, detail or "Sign in first.", headers={"WWW-Authenticate": 'Bearer realm="i9lyfe"'})


class Forbidden(Problem):
    """403: signed in, but not allowed."""

    status = 403


class NotFound(Problem):
    """404: absent, or hidden from the caller."""

    status = 404

    def __init__(self, code: str = "not_found", detail: str | None = None):
        super().__init__(code, detail or "There is nothing here, or nothing that you may see.")


class MethodNotAllowed(Problem):
    """405: the path exists, with other methods."""

    status = 405

    def __init__(self, allowed: list[str]):
        super().__init__("method_not_allowed", f"Allowed: {', '.join(allowed)}.", headers={"Allow": ", ".join(allowed)})


class NotAcceptable(Problem):
    """406: none of the media types asked for."""

    status = 406


class Conflict(Problem):
    """409: at odds with what is there."""

    status = 409


class TooLarge(Problem):
    """413: the body is over its limit."""

    status = 413


class UnsupportedMediaType(Problem):
    """415: a body of a type not spoken here."""

    status = 415


class Invalid(Problem):
    """422: readable, but wrong; every bad field is named."""

    status = 422

    def __init__(self, errors: list[FieldError], code: str = "invalid", detail: str | None = None):
        faults = f"{len(errors)} faults" if len(errors) != 1 else "one fault"
        super().__init__(code, detail or f"The request has {faults}; see errors.", errors=errors)

    @classmethod
    def field(cls, field: str, code: str, detail: str) -> "Invalid":
        """A request whose one fault is in `field`."""
        return cls([FieldError(field, code, detail)])


class TooManyRequests(Problem):
    """429: over a limit; `retry_after` in seconds."""

    status = 429

    def __init__(self, retry_after: int, code: str = "too_many_requests", detail: str | None = None):
        super().__init__(
            code,
            detail or f"Too many requests. Try again in {retry_after} s.",
            headers={"Retry-After": str(max(1, retry_after))},
        )


class InternalError(Problem):
    """500: a fault of ours. The log has the rest, under the request id."""

    def __init__(self) -> None:
        super().__init__("internal_error", "This is our fault. The request id finds it in our logs.")


class Unavailable(Problem):
    """503: a store that this request needs is down."""

    status = 503

    def __init__(self, store: str):
        super().__init__(
            "unavailable", f"{store.capitalize()} can't be reached just now.", headers={"Retry-After": "2"}
        )
        self.store = store
