"""The people of the tests, on the client that is for everybody (infra/client), and what tests wait for and look at.

They never ask twice: what is refused or cut off is what a test has to see.
"""

import json
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx
import msgpack
import msgspec
import psutil
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from infra.client import Client, Refused, http
from infra.client.http import TLS, decoded
from infra.client.link import Link, link
from infra.client.mailbox import Mailbox
from infra.local.stack import Stack
from infra.photos import Photo, make_photo
from shared.accounts.model import Session
from shared.kernel.codec import MSGPACK_TYPE as MSGPACK
from shared.kernel.codec import Format
from shared.media.model import Upload

__all__ = ["MSGPACK", "TLS", "Format", "Mailbox", "Refused", "decoded"]
T = TypeVar("T")
PASSWORD = "correct horse battery staple"
WAIT_SECONDS = 15.0


def wait_until(condition: Callable[[], T], seconds: float = WAIT_SECONDS) -> T:
    """The first truthy answer of `condition`, asked every 20 ms. Raises AssertionError when time is up."""
    until = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < until, f"{condition} did not come true within {seconds} s; last: {found!r}"
        time.sleep(0.02)


class Visitor(Client):
    """The API in one format, as someone uses it who has not signed in."""

    def __init__(self, url: str, *, format: Format = "json", token: str | None = None):
        super().__init__(url, format=format, patience=0)
        if token is not None:
            self.http.headers["Authorization"] = f"Bearer {token}"

    def encoded(self, body: Any) -> bytes:
        """A body in this one's format, whatever is in it."""
        return json.dumps(body).encode() if self.format == "json" else bytes(msgpack.packb(body) or b"")


class Person(Visitor):
    """Someone signed in: their client, username and session."""

    def __init__(self, stack: Stack, username: str, signed_in: dict[str, Any], *, format: Format = "json"):
        super().__init__(stack.api, format=format)
        self.keep(msgspec.convert(signed_in["session"], Session))
        self.stack = stack
        self.username = username
        self.email = f"{username}@example.com"

    @property
    def session(self) -> dict[str, Any]:
        """The session, as it was answered."""
        return msgspec.to_builtins(self.tokens)

    def speaking(self, format: Format) -> "Person":
        """The same person and session, in another format."""
        return Person(self.stack, self.username, {"session": self.session}, format=format)

    def follow(self, username: str) -> Any:
        """Follow; the fresh profile."""
        return self.put(f"/v1/users/{username}/follow")

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
        place = url or self.stack.live
        if ticket:
            opened = link(place, self.format, ticket=self.post("/v1/live/tickets")["ticket"])
        else:
            opened = link(place, self.format, token=self.session["access_token"])
        with opened as here:
            live = Live(here.socket, self.format)
            live.act("ping")
            yield live


class Live(Link):
    """A live socket: the events that came, and what is asked of it."""

    def __init__(self, socket: ClientConnection, format: Format):
        super().__init__(socket, format)
        self.events: list[dict[str, Any]] = []
        self._last_id = 0

    def receive(self, seconds: float | None = WAIT_SECONDS) -> dict[str, Any]:
        """The next message. Raises TimeoutError, ConnectionClosed."""
        message = super().receive(None if seconds is None else max(0.0, seconds))
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
    return http.send(msgspec.convert(upload, Upload), data)


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


def trips(answer: httpx.Response, store: str) -> int:
    """How many round trips to `store` the request took, by its Server-Timing."""
    found = re.search(rf'\b{store};[^,]*?desc="(\d+) trips', answer.headers.get("server-timing", ""))
    return int(found[1]) if found else 0


def sign_up(
    stack: Stack, username: str | None = None, password: str = PASSWORD, *, format: Format = "json", **profile: str
) -> Person:
    """A new person, signed up through the API and the mailbox."""
    username = username or f"u{secrets.token_hex(6)}"
    account = {"username": username, "name": username.title(), "password": password} | profile
    visitor = Visitor(stack.api, format=format)
    mailbox = Mailbox(stack.console, f"{username}@example.com")
    visitor.sign_up(mailbox.address, mailbox.next_code(), account)
    return Person(stack, username, {"session": msgspec.to_builtins(visitor.tokens)}, format=format)


def sign_in(stack: Stack, username: str, password: str = PASSWORD) -> Person:
    """Someone who has an account."""
    signed_in = Visitor(stack.api).post("/v1/login", {"login": username, "password": password})
    return Person(stack, username, signed_in)
