"""HTTP as the functions see it: a request's fields, its body under a limit, an answer's bytes and headers."""

import ipaddress
import random
import re
from functools import cache
from typing import Any, Final
from urllib.parse import urlsplit

from shared.kernel import codec, tokens
from shared.kernel.config import settings
from shared.kernel.endpoint import Client
from shared.kernel.problems import Forbidden, TooLarge, Unauthorized, Unreadable, UnsupportedMediaType

MAX_BODY: Final = 1 << 20
PROBLEM_TYPE: Final = "application/problem+json"
UNSAFE: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_SANE_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,64}")
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_CLOUD_TRACE: Final = re.compile(r"([0-9a-f]{32})(?:/.*)?")

NO_STORE: Final = (b"cache-control", b"no-store")
# OWASP REST Security Cheat Sheet: nothing here is a page, so nothing may be framed, sniffed or cached by default.
# No more of them than do something: the server checks each field of each answer, which is felt.
HARDENING: Final = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    NO_STORE,
    (b"vary", b"Accept, Origin, Authorization, Cookie"),
]
_HSTS: Final = (b"strict-transport-security", b"max-age=63072000; includeSubDomains")


@cache
def common_fields() -> list[tuple[bytes, bytes]]:
    """The fields that every answer has."""
    # RFC 6797, 7.2: the last one is not for plain HTTP.
    return [*HARDENING, *([_HSTS] if settings().public_url.startswith("https:") else [])]


class Request:
    """An ASGI request: its scope read once."""

    __slots__ = ("_receive", "fields", "method", "path", "peer", "query")

    def __init__(self, scope: Any, receive: Any):
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope["query_string"]
        self.peer: str = (scope.get("client") or ("unknown", 0))[0]
        self.fields: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            # Fields sent twice are joined, as RFC 9110 has it; cookies are joined by "; " (RFC 9113).
            if name in self.fields:
                value = self.fields[name] + (b"; " if name == b"cookie" else b", ") + value
            self.fields[name] = value
        self._receive = receive

    def field(self, name: bytes) -> str | None:
        """A header field's value. `name` in lower case."""
        value = self.fields.get(name)
        return None if value is None else value.decode("latin-1")

    async def body(self) -> bytes:
        """The whole body. Raises TooLarge past 1 MiB, without reading the rest."""
        declared = self.fields.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > MAX_BODY:
            raise _too_large()
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Unreadable("unreadable_body", "The body broke off.")
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > MAX_BODY:
                raise _too_large()
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks)

    def has_body(self) -> bool:
        """Whether a body comes with it."""
        return b"transfer-encoding" in self.fields or self.fields.get(b"content-length", b"0") != b"0"

    def format_of_body(self) -> codec.Format:
        """The format of the body. Raises UnsupportedMediaType, also for a compressed one."""
        if (self.field(b"content-encoding") or "identity").lower() != "identity":
            raise UnsupportedMediaType("unsupported_encoding", "Send the body as it is, without Content-Encoding.")
        return codec.format_of_body(self.field(b"content-type"))

    def request_id(self) -> str:
        """The client's own request id if it is a sane one, else a fresh one."""
        given = self.field(b"x-request-id")
        if given and _SANE_REQUEST_ID.fullmatch(given):
            return given
        return new_request_id()

    def trace(self) -> str:
        """The trace id, from `traceparent` or `X-Cloud-Trace-Context`; empty if there is none."""
        found = _TRACEPARENT.fullmatch(self.field(b"traceparent") or "") or _CLOUD_TRACE.fullmatch(
            self.field(b"x-cloud-trace-context") or ""
        )
        return found[1] if found else ""

    def client(self) -> Client:
        """Who asks: the address that our own outermost proxy saw; the rest of X-Forwarded-For anyone can write."""
        address = self.peer
        hops = settings().proxy_hops
        forwarded = [part.strip() for part in (self.field(b"x-forwarded-for") or "").split(",") if part.strip()]
        if hops and len(forwarded) >= hops:
            address = forwarded[-hops]
        return Client(_network(address), (self.field(b"user-agent") or "")[:300])

    def credentials(self) -> tuple[str | None, bool]:
        """The access token, and whether it came by cookie. Raises Unauthorized for what is neither."""
        authorization = self.fields.get(b"authorization")
        if authorization is not None:
            scheme, _, token = authorization.decode("latin-1").partition(" ")
            if scheme.lower() != "bearer" or not token.strip():
                raise Unauthorized("invalid_token", "The Authorization field must be: Bearer <access token>.")
            return token.strip(), False
        cookie = self.fields.get(b"cookie")
        value = None if cookie is None else cookie_value(cookie.decode("latin-1"))
        return (None, False) if value is None else (tokens.open_cookie(value), True)

    def check_same_origin(self) -> None:
        """The CSRF rule: with the cookie, what changes something comes from an origin of ours. Raises Forbidden."""
        origin = self.field(b"origin")
        if origin is None:
            if self.field(b"sec-fetch-site") == "same-origin":
                return
        elif origin_allowed(origin):
            return
        raise Forbidden("cross_site", "With the cookie, this needs an Origin (or Sec-Fetch-Site) of ours.")


def new_request_id() -> str:
    """An id for a request. No secret; and the system's random numbers would let another thread take over here."""
    return f"{random.getrandbits(96):024x}"


def cookie_value(header: str) -> str | None:
    """The session cookie in a Cookie header."""
    # By hand: the standard library reads none of those that come after one which it can't read.
    for pair in header.split(";"):
        name, _, value = pair.partition("=")
        if name.strip() == tokens.COOKIE_NAME:
            return value.strip().strip('"')
    return None


def origin_allowed(origin: str) -> bool:
    """Whether a browser on `origin` may use the API with its cookie: our own, and those configured."""
    own = urlsplit(settings().public_url)
    return origin == f"{own.scheme}://{own.netloc}" or origin in settings().cors_origins


def cookie_header(token: str | None, max_age: int) -> str:
    """The Set-Cookie value that keeps the session, sealed, or clears it."""
    secure = "" if urlsplit(settings().public_url).hostname in ("localhost", "127.0.0.1", "::1") else "; Secure"
    value = "" if token is None else tokens.seal_cookie(token)
    age = 0 if token is None else max_age
    return f"{tokens.COOKIE_NAME}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}"


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    # One household or server has a whole /64, so limits are counted on that.
    return str(parsed) if parsed.version == 4 else str(ipaddress.ip_network((parsed, 64), strict=False).network_address)


def _too_large() -> TooLarge:
    return TooLarge("body_too_large", f"A body can have {MAX_BODY} bytes.", headers={"Connection": "close"})


class Answer:
    """An answer as bytes: an ASGI application, as the framework's router calls it."""

    __slots__ = ("body", "fields", "status")

    def __init__(self, status: int, body: bytes, content_type: str | None):
        self.status = status
        self.body = body
        self.fields: list[tuple[bytes, bytes]] = common_fields().copy()
        if content_type is not None:
            self.fields.append((b"content-type", content_type.encode()))

    def set(self, name: str, value: str) -> None:
        """Add a header field. Line breaks can't come in."""
        self.fields.append((name.lower().encode(), value.replace("\r", "").replace("\n", "").encode("latin-1")))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send it."""
        body = self.body
        if self.status not in (204, 304):
            self.fields.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": self.status, "headers": self.fields})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
