"""How somebody comes to be hidden. Suspensions and deletions go to Postgres, with the events that tell of them."""

from collections.abc import Callable
from typing import Final

import msgspec

from shared.accounts.model import SessionEnded
from shared.kernel import cache, db, events, ids, sessions
from shared.profiles import reads as profiles
from shared.profiles.model import UserChanged
from tests.client import Person


class _IdRow(msgspec.Struct, frozen=True):
    id: int


_LEAVE = db.Statement("UPDATE users SET state = :state, version = version + 1 WHERE id = :id")
_END_SESSIONS = db.Statement(
    "UPDATE sessions SET ended_at = 1 WHERE user_id = :user_id AND ended_at IS NULL RETURNING id", _IdRow
)


def block(person: Person, other: Person) -> None:
    """`person` blocks `other`."""
    person.put(f"/v1/users/{other.username}/block")


def mute(person: Person, other: Person) -> None:
    """`person` mutes `other`."""
    person.put(f"/v1/users/{other.username}/mute")


def leave(user_id: int, state: str) -> None:
    """A user is `suspended` or `deleted` from now on; their sessions end."""
    with db.transaction() as conn:
        _LEAVE.run(conn, id=user_id, state=state)
        ended = [row.id for row in _END_SESSIONS.all(conn, user_id=user_id)]
        events.emit(conn, UserChanged(user_id), *[SessionEnded(user_id, session_id) for session_id in ended])
    events.after_commit(*map(sessions.ended, ended))
    profiles.refresh([user_id])


def id_of(person: Person) -> int:
    """A person's id, also once they are gone."""
    (found,) = cache.run_sync(("GET", f"username:{person.username}"))
    return ids.decode(found.decode()) if found else profiles.named([person.username])[person.username]


# How `other` comes to stand to `viewer` as the relation says.
RELATIONS: Final[dict[str, Callable[[Person, Person], None]]] = {
    "muted": mute,
    "blocked": block,
    "blocking": lambda viewer, other: block(other, viewer),
    "suspended": lambda viewer, other: leave(id_of(other), "suspended"),
    "deleted": lambda viewer, other: leave(id_of(other), "deleted"),
}
