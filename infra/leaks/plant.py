"""How `other` comes to stand to `viewer` as a relation says: as users and moderators make it so."""

from collections.abc import Callable
from typing import Final

from infra.local.stack import Stack
from shared.kernel import cache, ids
from shared.moderation import actions as moderation
from shared.profiles import reads as profiles
from tests.client import PASSWORD, Person, sign_up


def block(person: Person, other: Person) -> None:
    """`person` blocks `other`."""
    person.put(f"/v1/users/{other.username}/block")


def mute(person: Person, other: Person) -> None:
    """`person` mutes `other`."""
    person.put(f"/v1/users/{other.username}/mute")


def make_moderator(stack: Stack) -> Person:
    """A new account that is a moderator's."""
    moderator = sign_up(stack)
    moderation.set_moderator(moderator.username, moderator=True)
    return moderator


def suspend(stack: Stack, person: Person, moderator: Person | None = None) -> None:
    """A moderator suspends someone: a new one, unless one is at hand."""
    moderator = moderator or make_moderator(stack)
    body = {"subject": {"type": "user", "id": person.username}, "reason": "other"}
    report = moderator.post("/v1/reports", body)
    moderator.post(f"/v1/reports/{report['id']}/resolution", {"action": "suspend"})


def delete(person: Person) -> None:
    """Someone deletes their account."""
    answer = person.ask("DELETE", "/v1/me", {"password": PASSWORD})
    assert answer.status_code == 204, answer.text


def id_of(person: Person) -> int:
    """A person's id, also once they are gone."""
    (found,) = cache.run_sync(("GET", f"username:{person.username}"))
    return ids.decode(found.decode()) if found else profiles.named([person.username])[person.username]


RELATIONS: Final[dict[str, Callable[[Stack, Person, Person], None]]] = {
    "muted": lambda _, viewer, other: mute(viewer, other),
    "blocked": lambda _, viewer, other: block(viewer, other),
    "blocking": lambda _, viewer, other: block(other, viewer),
    "suspended": lambda stack, _, other: suspend(stack, other),
    "deleted": lambda _, viewer, other: delete(other),
}
