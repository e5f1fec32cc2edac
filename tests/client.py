"""A small typed client, for tests, the seed and the bench: people who sign up by mail, upload, post and follow."""

import io
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from PIL import Image

from infra.local.stack import Stack

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


def photo(width: int, height: int, seed: int = 0) -> bytes:
    """A JPEG of more than 1 KiB, the same for the same seed."""
    noise = Image.frombytes("RGB", (16, 16), bytes((i * (seed * 7 + 13) + i // 5) % 256 for i in range(768)))
    out = io.BytesIO()
    noise.resize((width, height), Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
    return out.getvalue()


@dataclass(frozen=True)
class Mailbox:
    """What the console caught for one address."""

    console: str
    address: str

    def mails(self) -> list[dict[str, Any]]:
        """The mails, newest first."""
        found = httpx.get(f"{self.console}/inbox.json", params={"to": self.address}).json()
        return found["items"] if isinstance(found, dict) else found

    def code(self) -> str:
        """The six digits of the newest mail, waited for."""
        newest = wait_until(self.mails)[0]
        match = re.search(r"\b(\d{6})\b", newest["text"])
        assert match, newest
        return match[1]


class Person:
    """Someone signed in: their client, username and session."""

    def __init__(self, stack: Stack, username: str, signed_in: dict[str, Any]):
        self.stack = stack
        self.username = username
        self.session: dict[str, Any] = signed_in["session"]
        self.http = httpx.Client(
            base_url=stack.api, headers={"Authorization": f"Bearer {self.session['access_token']}"}, timeout=30
        )

    def get(self, path: str, **params: Any) -> Any:
        """A GET that must succeed; its JSON."""
        return _ok(self.http.get(path, params=params))

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        """A POST that must succeed; its JSON."""
        return _ok(self.http.post(path, json=body, headers=headers))

    def put(self, path: str, body: Any = None) -> Any:
        """A PUT that must succeed; its JSON."""
        return _ok(self.http.put(path, json=body) if body is not None else self.http.put(path))

    def delete(self, path: str) -> Any:
        """A DELETE that must succeed; its JSON, or None."""
        return _ok(self.http.delete(path))

    def follow(self, username: str) -> Any:
        """Follow; the fresh profile."""
        return self.put(f"/v1/users/{username}/follow")

    def upload(self, contents: list[tuple[str, str, bytes]], purpose: str = "post") -> list[str]:
        """Upload (variant, content type, bytes) for real; the objects' names."""
        files = [{"variant": variant, "content_type": kind, "size": len(data)} for variant, kind, data in contents]
        uploads = self.post("/v1/uploads", {"purpose": purpose, "files": files})["uploads"]
        for upload, (_, _, data) in zip(uploads, contents, strict=True):
            sent = httpx.request(upload["method"], upload["url"], headers=upload["headers"], content=data)
            assert sent.status_code == 200, sent.text
        return [upload["object"] for upload in uploads]

    def upload_photo(self, seed: int = 0) -> dict[str, Any]:
        """A medium for a post, uploaded."""
        actual, placeholder = self.upload(
            [("actual", "image/jpeg", photo(320, 320, seed)), ("placeholder", "image/jpeg", photo(64, 64, seed))]
        )
        return {"actual": actual, "placeholder": placeholder, "width": 320, "height": 320}

    def post_photo(self, description: str = "", seed: int = 0) -> dict[str, Any]:
        """A post of one photo."""
        body = {"type": "photo:square", "media": [self.upload_photo(seed)], "description": description}
        return self.post("/v1/posts", body)


def _ok(answer: httpx.Response) -> Any:
    assert answer.is_success, f"{answer.request.method} {answer.request.url} {answer.status_code}: {answer.text}"
    return answer.json() if answer.content else None


def sign_up(stack: Stack, username: str | None = None, **profile: Any) -> Person:
    """A new person, signed up through the API and the mailbox."""
    username = username or f"u{secrets.token_hex(6)}"
    email = f"{username}@example.com"
    with httpx.Client(base_url=stack.api, timeout=30) as http:
        token = _ok(http.post("/v1/signup", json={"email": email}))["signup_token"]
        code = Mailbox(stack.console, email).code()
        token = _ok(http.post("/v1/signup/verify", json={"signup_token": token, "code": code}))["signup_token"]
        body = {"signup_token": token, "username": username, "name": username.title(), "password": PASSWORD} | profile
        return Person(stack, username, _ok(http.post("/v1/signup/complete", json=body)))
