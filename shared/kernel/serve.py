"""From a request to its answer: who asks, what they send, one call of the endpoint, the bytes back.

The framework calls the function that `target` makes. Whatever goes wrong leaves as a problem document.
"""

import asyncio
import hashlib
import logging
import re
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable
from functools import lru_cache, partial
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
from starlette.convertors import PathConvertor
from starlette.middleware.exceptions import ExceptionMiddleware
from uvicorn_worker import UvicornWorker  # pyright: ignore[reportMissingTypeStubs]

from shared.kernel import codec, events, guard, health, http, idempotency, ledger, log, no_http, openapi, tokens
from shared.kernel.config import settings
from shared.kernel.endpoint import Caller, Encoded, Endpoint, WithCookie, read_path_parameter
from shared.kernel.problems import FieldError, InternalError, Invalid, MethodNotAllowed, Problem, Unauthorized
from shared.kernel.router import Router

# Longer than what asks keeps its connections: the other way round it would write to one that was just closed. Source:
# Cloud Load Balancing, "Timeouts and retries": it keeps them for 600 s. The framework would have closed after 2 s.
KEEP_ALIVE_SECONDS: Final = 620
MAX_PARAMETERS: Final = 50
SHORT_QUERY: Final = 100
# msgspec would also take 1e1 and 10.0 for a 10.
_DIGITS: Final = re.compile(r"[0-9]{1,20}")


def target(name: str, endpoints: Iterable[Endpoint]) -> Callable[[Any], Awaitable[http.Answer]]:
    """The function that functions-framework calls for `endpoints`, named `name`."""
    # The framework's route to everything is made after this, and would leave out paths with a line break in them.
    PathConvertor.regex = "(?s:.*)"
    router = Router(endpoints)
    # Each endpoint has places of its own: one whose requests wait for a slow store keeps no other out of the threads.
    # As many as there are connections: more would only wait for those.
    places = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(settings().db_pool_size))

    async def serve(request: Any) -> http.Answer:
        return await _Exchange(http.Request(request.scope, request.receive), router, places).answer()

    async def refuse(_: Any, request: Any, __: Exception) -> http.Answer:
        return await serve(request)

    # What the framework's own routes refuse (TRACE, /robots.txt) gets a problem like the rest, and not plain text.
    ExceptionMiddleware.http_exception = refuse  # pyright: ignore[reportAttributeAccessIssue]
    UvicornWorker.CONFIG_KWARGS |= {"timeout_keep_alive": KEEP_ALIVE_SECONDS, "http": no_http.Protocol}
    serve.__name__ = serve.__qualname__ = name
    return serve


class _Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """The body of an endpoint that takes none: absent, or an empty map."""


_NO_BODY: Final = msgspec.json.Decoder(_Nothing)


def _parameters(query: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
    except ValueError:
        raise Invalid.field("query", "too_many", f"A query can have {MAX_PARAMETERS} parameters.") from None


def _read_query(kind: Any, query: bytes) -> Any:
    pairs = _parameters(query)
    counted = Counter(name for name, _ in pairs)
    if len(counted) != len(pairs):
        twice = sorted(name for name, count in counted.items() if count > 1)
        raise Invalid([FieldError(name, "repeated", "This parameter can be given once.") for name in twice])
    integers = {field.encode_name for field in msgspec.structs.fields(kind) if _is_integer(field.type)}
    return codec.convert(
        {name: int(text) if name in integers and _DIGITS.fullmatch(text) else text for name, text in pairs}, kind
    )


def _is_integer(kind: Any) -> bool:
    return getattr(kind, "__origin__", kind) is int  # Annotated too


# Most queries are one of few, and what is read of them can't change. Long ones are not worth their memory.
_read_short_query = lru_cache(4096)(_read_query)


class _Exchange:
    """One request and what becomes of it."""

    def __init__(self, request: http.Request, router: Router, places: defaultdict[str, asyncio.Semaphore]):
        self.request = request
        self.router = router
        self.places = places
        self.type = codec.JSON_TYPE
        self.endpoint: Endpoint | None = None
        self.user_id: int | None = None
        self.guard: guard.Guard | None = None
        self.body = b""
        self.errors: list[FieldError] = []
        self.request_id = request.request_id()

    @property
    def format(self) -> codec.Format:
        """The format of the answer."""
        return codec.FORMATS[self.type]

    async def answer(self) -> http.Answer:
        started = time.perf_counter()
        trips = ledger.open_ledger()
        trace = self.request.trace()
        log.trace_id.set(trace)
        try:
            answer = await self._respond()
        except Problem as problem:
            answer = self._problem(problem)
        except Exception:
            logging.getLogger("crash").exception("request failed", extra={"request_id": self.request_id})
            answer = self._problem(InternalError())
        self._finish(answer, trips, time.perf_counter() - started)
        return answer

    async def _respond(self) -> http.Answer:
        request = self.request
        if request.method == "OPTIONS":
            return self._options()
        if request.path in health.PATHS and request.method in ("GET", "HEAD"):
            return await health.answer(request.path)
        if request.path in (*health.PATHS, openapi.PATH) and request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(["GET", "HEAD", "OPTIONS"])
        if request.path == openapi.PATH and request.method in ("GET", "HEAD"):
            return http.Answer(200, openapi.encoded(), codec.JSON_TYPE)
        self.type = codec.type_of_answer(request.field(b"accept"))
        endpoint, texts = self.router.match(request.method, request.path)
        self.endpoint = endpoint
        arguments, asked = self._authorise(endpoint)
        result = await guard.guarded(asked, endpoint, partial(self._read, endpoint, texts, arguments))
        if endpoint.is_async:
            return self._success(endpoint, result)
        key = self._idempotency_key(endpoint)
        call = partial(self._call, endpoint, arguments)
        if key is not None:
            body = codec.canonical(self.body, request.format_of_body()) if self.body else b""
            line = f"{request.path}?{request.query.decode('latin-1')}" if request.query else request.path
            call = partial(idempotency.once, self._scope(), key, line, body, call, self._problem)
        async with self.places[endpoint.name]:
            answer = await events.perform(call)
        return answer if key is None else self._in_format_asked_for(answer)

    def _idempotency_key(self, endpoint: Endpoint) -> str | None:
        return self.request.field(b"idempotency-key") if endpoint.method == "POST" else None

    def _call(self, endpoint: Endpoint, arguments: dict[str, Any]) -> http.Answer:
        if self.errors:
            raise Invalid(self.errors)
        return self._success(endpoint, endpoint.function(**arguments))

    def _scope(self) -> str:
        return f"user:{self.user_id}" if self.user_id else f"address:{self.request.client().address}"

    def _authorise(self, endpoint: Endpoint) -> tuple[dict[str, Any], guard.Guard]:
        arguments: dict[str, Any] = {}
        caller: Caller | None = None
        # Sessions don't matter to an endpoint that is open to all: a stale cookie must not stop a login.
        if endpoint.auth != "public":
            claims, by_cookie = self._claims(endpoint)
            if claims is not None:
                caller = Caller(claims.user_id, claims.session_id)
                self.user_id = caller.user_id
                if by_cookie and self.request.method in http.UNSAFE:
                    self.request.check_same_origin()
            arguments[endpoint.auth] = caller
        if caller is None and endpoint.auth == "caller":
            raise Unauthorized
        client = self.request.client() if caller is None or endpoint.takes_client else None
        if endpoint.takes_client:
            arguments["client"] = client
        subject = str(caller.user_id) if caller else client.address if client else ""
        self.guard = guard.Guard(endpoint.limit, subject, caller.session_id if caller else None)
        return arguments, self.guard

    def _claims(self, endpoint: Endpoint) -> tuple[tokens.Claims | None, bool]:
        try:
            token, by_cookie = self.request.credentials()
            return (None if token is None else tokens.verify_access(token)), by_cookie
        except Unauthorized:
            # A browser sends its cookie unasked: an old one must not hide from it what any visitor may read.
            if endpoint.auth == "caller" or b"authorization" in self.request.fields:
                raise
            return None, False

    async def _read(self, endpoint: Endpoint, texts: dict[str, str], arguments: dict[str, Any]) -> dict[str, Any]:
        for name, text in texts.items():
            arguments[name] = read_path_parameter(endpoint.path_parameters[name], text)
        key = self._idempotency_key(endpoint)
        errors = [] if key is None else idempotency.faults(key)
        if endpoint.query is not None:
            try:
                query = self.request.query
                read = _read_short_query if len(query) <= SHORT_QUERY else _read_query
                arguments["query"] = read(endpoint.query, query)
            except Invalid as invalid:
                errors += invalid.errors or []
        elif self.request.query:
            names = {name for name, _ in _parameters(self.request.query)}
            errors += [FieldError(name, "unknown_field", "There is no such parameter.") for name in sorted(names)]
        if endpoint.json_decoder is not None or (endpoint.method in http.UNSAFE and self.request.has_body()):
            body = self.body = await self.request.body()
            format = self.request.format_of_body()
            try:
                if endpoint.json_decoder is not None:
                    arguments["body"] = codec.decode(body, format, endpoint.json_decoder)
                elif body:
                    codec.decode(body, format, _NO_BODY)
            except Invalid as invalid:
                errors += invalid.errors or []
        # Under a key that is an answer like any other, and kept.
        if errors and (key is None or idempotency.faults(key)):
            raise Invalid(errors)
        self.errors = errors
        return arguments

    def _success(self, endpoint: Endpoint, result: Any) -> http.Answer:
        cookie: str | None = None
        if isinstance(result, WithCookie):
            cookie = http.cookie_header(result.token, result.max_age)
            result = result.answer
        if endpoint.status == 204:
            answer = http.Answer(204, b"", None)
        else:
            body = (
                codec.transcode(result.json, self.format)
                if isinstance(result, Encoded)
                else codec.encode(result, self.format)
            )
            answer = http.Answer(endpoint.status, body, self.type)
            if endpoint.method == "GET" and endpoint.page_of is None:
                answer = self._conditional(answer)
        if cookie is not None:
            answer.set("set-cookie", cookie)
        return answer

    def _in_format_asked_for(self, answer: http.Answer) -> http.Answer:
        """An answer that may be one given before, to a request that asked for another format."""
        given = next((value.decode() for name, value in answer.fields if name == b"content-type"), None)
        wanted = http.PROBLEM_TYPE if answer.status >= 400 and self.format == "json" else self.type
        if given in (None, wanted):
            return answer
        answer.body = codec.encode(codec.unpack(answer.body, codec.FORMATS.get(given, "json")), self.format)
        answer.fields = [field for field in answer.fields if field[0] != b"content-type"]
        answer.set("content-type", wanted)
        return answer

    def _conditional(self, answer: http.Answer) -> http.Answer:
        etag = f'"{hashlib.blake2b(answer.body, digest_size=12).hexdigest()}"'
        wanted = self.request.field(b"if-none-match")
        if wanted is not None and (
            wanted.strip() == "*" or etag in {w.strip().removeprefix("W/") for w in wanted.split(",")}
        ):
            answer = http.Answer(304, b"", None)
        answer.set("etag", etag)
        # Kept by its owner's browser alone, and asked for anew each time: else nobody could send If-None-Match.
        answer.fields.remove(http.NO_STORE)
        answer.set("cache-control", "private, no-cache")
        return answer

    def _problem(self, problem: Problem) -> http.Answer:
        body = codec.encode(problem.document(self.request_id), self.format)
        answer = http.Answer(problem.status, body, http.PROBLEM_TYPE if self.format == "json" else self.type)
        for name, value in problem.headers.items():
            answer.set(name, value)
        return answer

    def _options(self) -> http.Answer:
        methods = ", ".join(self.router.methods(self.request.path))
        answer = http.Answer(204, b"", None)
        answer.set("allow", methods)
        if self.request.field(b"access-control-request-method"):
            answer.set("access-control-allow-methods", methods)
            answer.set(
                "access-control-allow-headers",
                "Authorization, Content-Type, Idempotency-Key, If-None-Match, X-Request-Id",
            )
            answer.set("access-control-max-age", "7200")
        return answer

    def _finish(self, answer: http.Answer, trips: ledger.Ledger, seconds: float) -> None:
        request = self.request
        answer.set("x-request-id", self.request_id)
        origin = request.field(b"origin")
        if origin is not None and http.origin_allowed(origin):
            answer.set("access-control-allow-origin", origin)
            answer.set("access-control-allow-credentials", "true")
            answer.set(
                "access-control-expose-headers",
                "ETag, Idempotent-Replayed, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id",
            )
        if self.guard is not None and self.guard.fields is not None:
            answer.set("ratelimit", self.guard.fields)
        if settings().is_local:
            answer.set("server-timing", ledger.server_timing(trips) or "total")
        log.request(
            target=self.endpoint.name if self.endpoint else None,
            request_id=self.request_id,
            user=self.user_id,
            method=request.method,
            path=request.path,
            status=answer.status,
            seconds=seconds,
            bytes_out=len(answer.body),
            ledger=trips,
        )
