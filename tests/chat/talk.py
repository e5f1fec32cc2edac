"""What chatting is, in the words of the tests."""

import secrets
from typing import Any

from infra.photos import make_photo
from tests.client import Person

JPEG = "image/jpeg"


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def write(
    sender: Person, to: Person, words: str | dict[str, Any], *, reply_to: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """A message; of words, a text."""
    body = {"client_id": secrets.token_hex(8), "content": text(words) if isinstance(words, str) else words} | more
    if reply_to is not None:
        body["reply_to"] = reply_to["id"]
    return sender.post(f"/v1/chats/{to.username}/messages", body)


def history(person: Person, other: Person, limit: int = 20) -> list[dict[str, Any]]:
    return list(person.items(f"/v1/chats/{other.username}/messages", limit))


def words_of(messages: list[dict[str, Any]]) -> list[str | None]:
    return [None if one["content"] is None else one["content"]["text"] for one in messages]


def chats(person: Person, box: str = "inbox") -> list[dict[str, Any]]:
    return person.get("/v1/chats", box=box)["items"]


def acknowledge(person: Person, other: Person, **up_to: dict[str, Any]) -> dict[str, Any]:
    """`delivered_up_to=` or `read_up_to=` a message."""
    named = {name: message["id"] for name, message in up_to.items()}
    return person.put(f"/v1/chats/{other.username}/ack", named)


def status(person: Person, message: dict[str, Any], other: Person) -> str:
    return next(one["status"] for one in history(person, other) if one["id"] == message["id"])


def react(person: Person, message: dict[str, Any], emoji: str) -> dict[str, Any]:
    return person.put(f"/v1/messages/{message['id']}/reaction", {"emoji": emoji})


def friends(one: Person, other: Person) -> None:
    """They follow each other: nobody's first message is a request."""
    one.follow(other.username)
    other.follow(one.username)


def upload(person: Person, kind: str = JPEG, data: bytes | None = None) -> str:
    """An object for a message, uploaded."""
    contents = make_photo(7).actual if data is None else data
    return person.upload([("actual", kind, contents)], purpose="message")[0]


def upload_photo(person: Person, seed: int = 7) -> dict[str, Any]:
    """A photo for a message, uploaded, as content."""
    photo = make_photo(seed)
    actual, placeholder = person.upload(
        [("actual", JPEG, photo.actual), ("placeholder", JPEG, photo.placeholder)], purpose="message"
    )
    return {"type": "photo", "actual": actual, "placeholder": placeholder}
