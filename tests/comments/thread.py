"""Commenting, replying, and reading what is there, as tests need it again and again."""

from typing import Any

from infra.photos import make_photo
from shared.profiles import reads as profiles
from tests.client import Person, Visitor, decoded


def comment(person: Person, post: dict[str, Any], text: str = "Fine!") -> dict[str, Any]:
    return person.post(f"/v1/posts/{post['id']}/comments", {"text": text})


def reply(person: Person, parent: dict[str, Any], text: str = "Indeed.") -> dict[str, Any]:
    return person.post(f"/v1/comments/{parent['id']}/replies", {"text": text})


def read(person: Visitor, comment: dict[str, Any]) -> dict[str, Any]:
    return person.get(f"/v1/comments/{comment['id']}")


def edit(person: Person, comment: dict[str, Any], text: str) -> dict[str, Any]:
    answer = person.ask("PATCH", f"/v1/comments/{comment['id']}", {"text": text})
    assert answer.status_code == 200, answer.text
    return decoded(answer)


def delete(person: Person, comment: dict[str, Any]) -> None:
    person.delete(f"/v1/comments/{comment['id']}")


def status(person: Visitor, comment: dict[str, Any], method: str = "GET", tail: str = "") -> int:
    body = {"text": "Hm"} if method in ("POST", "PATCH") else None
    return person.ask(method, f"/v1/comments/{comment['id']}{tail}", body).status_code


def comments(person: Visitor, post: dict[str, Any], limit: int = 20) -> list[dict[str, Any]]:
    return list(person.items(f"/v1/posts/{post['id']}/comments", limit))


def replies(person: Visitor, parent: dict[str, Any], limit: int = 20) -> list[dict[str, Any]]:
    return list(person.items(f"/v1/comments/{parent['id']}/replies", limit))


def ids_of(found: list[dict[str, Any]]) -> list[str]:
    return [one["id"] for one in found]


def tombstone(comment: dict[str, Any], shown: dict[str, Any]) -> dict[str, Any]:
    """What is left of a comment that was deleted under its replies; `shown` says when, and how many there are."""
    left = {"author": None, "text": None, "attachment": None, "mentions": [], "edited_at": None, "reactions": {}}
    assert shown["deleted_at"] >= comment["created_at"]
    return comment | left | {"deleted_at": shown["deleted_at"], "counts": shown["counts"]}


def upload_attachment(person: Person, seed: int = 0) -> dict[str, Any]:
    photo = make_photo(seed)
    actual, placeholder = person.upload(
        [("actual", "image/jpeg", photo.actual), ("placeholder", "image/jpeg", photo.placeholder)], "comment"
    )
    return {"actual": actual, "placeholder": placeholder, "width": photo.width, "height": photo.height}


def id_of(person: Person) -> int:
    return profiles.named([person.username])[person.username]


def block(one: Person, two: Person, *, undo: bool = False) -> None:
    """`one` blocks `two`, or does so no more."""
    (one.delete if undo else one.put)(f"/v1/users/{two.username}/block")
