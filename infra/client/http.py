"""The API over HTTP."""

import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Self

import httpx
import msgspec

from infra.client.refused import Problem, Refused, problem_in
from infra.client.waiting import Patience
from shared.accounts.model import Refreshed, Session, SignedIn, SignupStarted, SignupVerified
from shared.kernel import codec
from shared.kernel.codec import Format
from shared.kernel.pages import Page
from shared.media.model import Purpose, Upload, Uploads

PATIENCE_SECONDS: Final = 30.0
# What new tokens help against.
STALE: Final = ("token_expired", "invalid_token")
# What stands before the API says so of its absence, without saying when to come back.
AWAY: Final = (502, 503, 504)
REFRESH: Final = "/v1/session/refresh"
# A client makes one of its own otherwise, also for http: 17 ms of a processor, each time.
TLS: Final = httpx.create_ssl_context(trust_env=False)


class Client:
    """The API in one format, as a visitor or signed in. Many threads can share it.

    `patience`: for how many seconds one thing is tried again, when the API can't be reached or says when to come back.
    That is safe for each: a POST has an idempotency key, and all else is done twice as once. `into` is the type that an
    answer is read as: plain values without one.
    """

    def __init__(
        self,
        url: str,
        *,
        format: Format = "json",
        tokens: Session | None = None,
        patience: float = PATIENCE_SECONDS,
    ):
        self.url = url
        self.format: Format = format
        self.patience = patience
        fields = {"Accept": codec.MSGPACK_TYPE} if format == "msgpack" else {}
        self.http = httpx.Client(base_url=url, headers=fields, timeout=30, trust_env=False, verify=TLS)
        self.tokens: Session | None = None
        self._refreshing = threading.Lock()
        if tokens is not None:
            self.keep(tokens)

    def close(self) -> None:
        """End its connections."""
        self.http.close()

    def keep(self, tokens: Session) -> None:
        """Be signed in with these from now on."""
        # In this order: who sees the new one asks with it.
        self.http.headers["Authorization"] = f"Bearer {tokens.access_token}"
        self.tokens = tokens

    def sign_in(self, login: str, password: str) -> Self:
        """Sign in, by e-mail address or username."""
        self.keep(self.post("/v1/login", {"login": login, "password": password}, into=SignedIn).session)
        return self

    def sign_up(self, email: str, code: Callable[[], str], account: dict[str, Any]) -> Self:
        """Make an account, and be signed in with it. `code` gives the six digits that are mailed to `email`."""
        token = self.post("/v1/signup", {"email": email}, into=SignupStarted).signup_token
        proof = {"signup_token": token, "code": code()}
        token = self.post("/v1/signup/verify", proof, into=SignupVerified).signup_token
        signed_in = self.post("/v1/signup/complete", account | {"signup_token": token}, into=SignedIn)
        self.keep(signed_in.session)
        return self

    def refresh(self, stale: str) -> None:
        """Get new tokens, unless another thread got them after the access token `stale`: refresh tokens are good once.

        Raises Refused when the session has ended.
        """
        with self._refreshing:
            if self.tokens is None:
                raise Refused("refresh", Problem(401, "not_signed_in", "There is no session."))
            if self.tokens.access_token == stale:
                asked = {"refresh_token": self.tokens.refresh_token}
                self.keep(self.post(REFRESH, asked, into=Refreshed).session)

    def get(self, path: str, *, into: Any = Any, **params: Any) -> Any:
        """The body of the answer. Raises Refused, as all of these do, and httpx.TransportError."""
        return self._call("GET", str(httpx.URL(path).copy_merge_params(params)) if params else path, into=into)

    def post(self, path: str, body: Any = None, *, into: Any = Any, **fields: str) -> Any:
        """The body of the answer; with further header fields, as for `ask`."""
        if self.patience:
            fields.setdefault("idempotency_key", secrets.token_urlsafe(16))
        return self._call("POST", path, body, into=into, **fields)

    def put(self, path: str, body: Any = None, *, into: Any = Any) -> Any:
        """The body of the answer."""
        return self._call("PUT", path, body, into=into)

    def patch(self, path: str, body: Any, *, into: Any = Any) -> Any:
        """The body of the answer."""
        return self._call("PATCH", path, body, into=into)

    def delete(self, path: str, body: Any = None, *, into: Any = Any) -> Any:
        """The body of the answer, or None."""
        return self._call("DELETE", path, body, into=into)

    def items(self, path: str, limit: int = 20, *, into: Any = Any, **params: Any) -> Iterator[Any]:
        """Every item of a list, page by page."""
        while True:
            page = self.get(path, into=Page[into], limit=limit, **params)
            yield from page.items
            if page.next_cursor is None:
                return
            params["cursor"] = page.next_cursor

    def upload(self, contents: Sequence[tuple[str, str, bytes]], purpose: Purpose = "post") -> list[str]:
        """Upload (variant, content type, bytes) straight to storage; the objects' names."""
        files = [{"variant": variant, "content_type": kind, "size": len(data)} for variant, kind, data in contents]
        uploads = self.post("/v1/uploads", {"purpose": purpose, "files": files}, into=Uploads).uploads
        for upload, (_, _, data) in zip(uploads, contents, strict=True):
            answer = send(upload, data)
            if not answer.is_success:
                raise Refused(f"{upload.method} {upload.object}", _problem_in(answer))
        return [upload.object for upload in uploads]

    def ask(self, method: str, path: str, body: Any = None, **fields: str) -> httpx.Response:
        """The answer, whatever it is. A body of bytes is sent as it is; `idempotency_key=` is Idempotency-Key."""
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        if body is not None:
            headers.setdefault("content-type", codec.JSON_TYPE if self.format == "json" else codec.MSGPACK_TYPE)
        content = body if body is None or isinstance(body, bytes) else self.encoded(body)
        return self.http.request(method, path, content=content, headers=headers)

    def encoded(self, body: Any) -> bytes:
        """A body in this client's format."""
        return codec.encode(body, self.format)

    def _call(self, method: str, path: str, body: Any = None, *, into: Any, **fields: str) -> Any:
        patience = Patience(self.patience)
        refreshed = path == REFRESH
        while True:
            token = "" if self.tokens is None else self.tokens.access_token
            try:
                answer = self.ask(method, path, body, **fields)
            except httpx.TransportError:
                if patience.lasts():
                    continue
                raise
            if answer.is_success:
                return decoded(answer, into)
            problem = _problem_in(answer)
            if problem.code in STALE and token and not refreshed:
                self.refresh(token)
                refreshed = True
                continue
            may_pass = problem.retry_after is not None or problem.status in AWAY
            if not may_pass or not patience.lasts(problem.retry_after):
                raise Refused(f"{method} {path}", problem)


def send(upload: Upload, data: bytes) -> httpx.Response:
    """Send bytes to where an upload was authorised."""
    return httpx.request(
        upload.method, upload.url, headers=upload.headers, content=data, trust_env=False, verify=TLS, timeout=30
    )


def decoded(answer: httpx.Response, into: Any = Any) -> Any:
    """The body of an answer; None if it has none."""
    if not answer.content:
        return None
    return (msgspec.json if _format_of(answer) == "json" else msgspec.msgpack).decode(answer.content, type=into)


def _problem_in(answer: httpx.Response) -> Problem:
    wait = answer.headers.get("Retry-After", "")
    return problem_in(answer.content, answer.status_code, wait, format=_format_of(answer))


def _format_of(answer: httpx.Response) -> Format:
    return codec.FORMATS.get(answer.headers.get("content-type", ""), "json")
