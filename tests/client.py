"""A small typed client, for tests, the seed and the bench: people who sign up by mail, upload, post, follow, listen."""

import json
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import httpx
import msgpack
import psutil
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from infra.local.stack import Stack
from infra.photos import Photo, make_photo

Format = Literal["json", "msgpack"]
T = TypeVar("T")
PASSWORD = "correct horse battery staple"
MSGPACK = "application/vnd.msgpack"
WAIT_SECONDS = 15.0
# A client makes one of its own otherwise, also for http: 17 ms of a processor, each time.
TLS = httpx.create_ssl_context(trust_env=False)


def wait_until(condition: Callable[[], T], seconds: float = WAIT_SECONDS) -> T:
    """The first truthy answer of `condition`, asked every 20 ms. Raises AssertionError when time is up."""
    until = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < until, f"{condition} did not come true within {seconds} s; last: {found!r}"
        time.sleep(0.02)


@dataclass(frozen=True)
class Mailbox:
    """What the console caught for one address."""

    console: str
    address: str

    def mails(self) -> list[dict[str, Any]]:
        """The mails, newest first."""
        return httpx.get(f"{self.console}/inbox.json", params={"to": self.address}, trust_env=False, verify=TLS).json()

    def code(self, after: int = 0) -> str:
        """The six digits of the newest mail, waited for past the `after` mails that were there."""
        newest = wait_until(lambda: self.mails()[: -after or None])[0]
        match = re.search(r"\b(\d{6})\b", newest["text"])
        assert match, newest
        return match[1]


class Visitor:
    """The API in one format, as someone uses it who has not signed in."""

    def __init__(self, url: str, *, format: Format = "json", token: str | None = None):
        fields = {} if token is None else {"Authorization": f"Bearer {token}"}
        if format == "msgpack":
            fields["Accept"] = MSGPACK
        self.url = url
        self.format: Format = format
        self.http = httpx.Client(base_url=url, headers=fields, timeout=30, trust_env=False, verify=TLS)

    def close(self) -> None:
        """End its connections."""
        self.http.close()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """The answer, whatever it is. A body of bytes is sent as it is; `idempotency_key=` is Idempotency-Key."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        content: bytes | None = body if isinstance(body, bytes) else None
        if body is not None:
            fields.setdefault("content-type", "application/json" if self.format == "json" else MSGPACK)
            content = content if content is not None else self._encoded(body)
        return self.http.request(method, path, content=content, headers=fields)

    def _encoded(self, body: Any) -> bytes:
        return json.dumps(body).encode() if self.format == "json" else bytes(msgpack.packb(body) or b"")

    def get(self, path: str, **params: Any) -> Any:
        """A GET that must succeed; its body."""
        return _ok(self.http.get(path, params=params))

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        """A POST that must succeed; its body."""
        return _ok(self.ask("POST", path, body, **headers))

    def put(self, path: str, body: Any = None) -> Any:
        """A PUT that must succeed; its body."""
        return _ok(self.ask("PUT", path, body))

    def patch(self, path: str, body: Any) -> Any:
        """A PATCH that must succeed; its body."""
        return _ok(self.ask("PATCH", path, body))

    def delete(self, path: str) -> Any:
        """A DELETE that must succeed; its body, or None."""
        return _ok(self.ask("DELETE", path))

    def items(self, path: str, limit: int = 20) -> Iterator[dict[str, Any]]:
        """Every item of a list, page by page."""
        cursor: str | None = None
        while True:
            page = self.get(path, limit=limit, **({} if cursor is None else {"cursor": cursor}))
            yield from page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return


class Person(Visitor):
    """Someone signed in: their client, username and session."""

    def __init__(self, stack: Stack, username: str, signed_in: dict[str, Any], *, format: Format = "json"):
        super().__init__(stack.api, format=format, token=signed_in["session"]["access_token"])
        self.stack = stack
        self.username = username
        self.email = f"{username}@example.com"
        self.session: dict[str, Any] = signed_in["session"]

    def speaking(self, format: Format) -> "Person":
        """The same person and session, in another format."""
        return Person(self.stack, self.username, {"session": self.session}, format=format)

    def follow(self, username: str) -> Any:
        """Follow; the fresh profile."""
        return self.put(f"/v1/users/{username}/follow")

    def upload(self, contents: list[tuple[str, str, bytes]], purpose: str = "post") -> list[str]:
        """Upload (variant, content type, bytes) for real; the objects' names."""
        files = [{"variant": variant, "content_type": kind, "size": len(data)} for variant, kind, data in contents]
        uploads = self.post("/v1/uploads", {"purpose": purpose, "files": files})["uploads"]
        for upload, (_, _, data) in zip(uploads, contents, strict=True):
            sent = send(upload, data)
            assert sent.status_code == 200, sent.text
        return [upload["object"] for upload in uploads]

    def upload_photo(self, seed: int = 0, photo: Photo | None = None) -> dict[str, Any]:
        """A medium for a post, uploaded."""
        photo = photo or make_photo(seed)
        actual, placeholder = self.upload(
            [("actual", "image/jpeg", photo.actual), ("placeholder", "image/jpeg", photo.placeholder)]
        )
        return {"actual": actual, "placeholder": placeholder, "width": photo.width, "height": photo.height}

    def post_photo(self, description: str = "", seed: int = 0) -> dict[str, Any]:
        """A post of one photo."""
        body = {"type": "photo:square", "media": [self.upload_photo(seed)], "description": description}
        return self.post("/v1/posts", body)

    @contextmanager
    def live(self, url: str | None = None, *, ticket: bool = True) -> "Iterator[Live]":
        """A live socket, subscribed already: by a ticket, as a browser's, or else by the access token."""
        query = f"?ticket={self.post('/v1/live/tickets')['ticket']}" if ticket else ""
        fields = {} if ticket else {"Authorization": self.http.headers["Authorization"]}
        protocol = Subprotocol(f"i9lyfe.v1.{self.format}")
        with connect(
            f"{url or self.stack.live}{query}", subprotocols=[protocol], additional_headers=fields, proxy=None
        ) as socket:
            live = Live(socket, self.format)
            live.act("ping")
            yield live


class Live:
    """A live socket: the events that came, and what is asked of it."""

    def __init__(self, socket: ClientConnection, format: Format):
        self.socket = socket
        self.format: Format = format
        self.events: list[dict[str, Any]] = []
        self._last_id = 0

    def receive(self, seconds: float = WAIT_SECONDS) -> dict[str, Any]:
        """The next message. Raises TimeoutError, ConnectionClosed."""
        frame = self.socket.recv(timeout=max(0.0, seconds))
        message = json.loads(frame) if isinstance(frame, str) else msgpack.unpackb(frame)
        if "event" in message:
            self.events.append(message)
        return message

    def event(self, name: str, seconds: float = WAIT_SECONDS) -> dict[str, Any]:
        """The first event of this name, one that has come before or one to come."""
        until = time.monotonic() + seconds
        while True:
            for seen in self.events:
                if seen["event"] == name:
                    return seen
            try:
                self.receive(until - time.monotonic())
            except TimeoutError:
                raise AssertionError(f"no {name} within {seconds} s; there came {self.events}") from None

    def send(self, request: dict[str, Any]) -> None:
        """A frame with a request, or with what is none."""
        self.socket.send(json.dumps(request) if self.format == "json" else bytes(msgpack.packb(request) or b""))

    def act(self, action: str, data: dict[str, Any] | None = None) -> dict[str, Any]:
        """The reply to an action; events that come before it are kept."""
        self._last_id += 1
        request = {"id": str(self._last_id), "action": action, "data": data or {}}
        self.send(request)
        while True:
            message = self.receive()
            if message.get("reply_to") == request["id"]:
                return message

    def drain(self) -> list[dict[str, Any]]:
        """All events so far: a ping's reply comes after what was delivered before it."""
        self.act("ping")
        return self.events

    def close_code(self, seconds: float = WAIT_SECONDS) -> int:
        """The code that the server closes with. Raises TimeoutError."""
        until = time.monotonic() + seconds
        while True:
            try:
                self.receive(until - time.monotonic())
            except ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd else 1006


def send(upload: dict[str, Any], data: bytes) -> httpx.Response:
    """Send bytes to where an upload was authorised."""
    return httpx.request(
        upload["method"], upload["url"], headers=upload["headers"], content=data, trust_env=False, verify=TLS
    )


def processes(stack: Stack, part: str) -> list[psutil.Process]:
    """The processes of a part of the stack as they are now: gunicorn serves from a child of the one started."""
    first = psutil.Process(stack.reread().pids[part])
    return [first, *first.children(recursive=True)]


@contextmanager
def standing_still(stack: Stack, *parts: str) -> Iterator[None]:
    """These parts of the stack do nothing meanwhile, and then go on."""
    stopped = [process for part in parts for process in processes(stack, part)]
    for process in stopped:
        process.suspend()
    try:
        yield
    finally:
        for process in stopped:
            process.resume()


def decoded(answer: httpx.Response) -> Any:
    """The body of an answer; None if it has none."""
    if not answer.content:
        return None
    return msgpack.unpackb(answer.content) if answer.headers["content-type"] == MSGPACK else answer.json()


def _ok(answer: httpx.Response) -> Any:
    assert answer.is_success, f"{answer.request.method} {answer.request.url} {answer.status_code}: {answer.text}"
    return decoded(answer)


def trips(answer: httpx.Response, store: str) -> int:
    """How many round trips to `store` the request took, by its Server-Timing."""
    found = re.search(rf'\b{store};[^,]*?desc="(\d+) trips', answer.headers.get("server-timing", ""))
    return int(found[1]) if found else 0


def sign_up(
    stack: Stack, username: str | None = None, password: str = PASSWORD, *, format: Format = "json", **profile: str
) -> Person:
    """A new person, signed up through the API and the mailbox."""
    username = username or f"u{secrets.token_hex(6)}"
    visitor = Visitor(stack.api, format=format)
    token = verified(stack, f"{username}@example.com", visitor)
    body = {"signup_token": token, "username": username, "name": username.title(), "password": password} | profile
    return Person(stack, username, visitor.post("/v1/signup/complete", body), format=format)


def verified(stack: Stack, email: str, visitor: Visitor) -> str:
    """The token for the last step of signing up: the address is proven with the code from the mailbox."""
    mailbox = Mailbox(stack.console, email)
    before = len(mailbox.mails())
    token = visitor.post("/v1/signup", {"email": email})["signup_token"]
    return visitor.post("/v1/signup/verify", {"signup_token": token, "code": mailbox.code(before)})["signup_token"]


def sign_in(stack: Stack, username: str, password: str = PASSWORD) -> Person:
    """Someone who has an account."""
    signed_in = Visitor(stack.api).post("/v1/login", {"login": username, "password": password})
    return Person(stack, username, signed_in)
