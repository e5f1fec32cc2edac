"""Relations that the API can't make yet, put into Postgres with the events that their endpoints will emit."""

from collections.abc import Callable
from typing import Final

import msgspec

from shared.accounts.model import SessionEnded
from shared.kernel import cache, db, events, ids, sessions
from shared.notifications import actions as notifications
from shared.profiles import reads as profiles
from shared.profiles.model import UserChanged
from tests.client import Person


class _IdRow(msgspec.Struct, frozen=True):
    id: int


_STAND = db.Statement(
    """INSERT INTO relationships AS r (user_id, other_id, blocked_at, muted_at) VALUES (:one, :two, :blocked, :muted)
       ON CONFLICT (user_id, other_id)
       DO UPDATE SET blocked_at = excluded.blocked_at, muted_at = excluded.muted_at, version = r.version + 1"""
)
_LEAVE = db.Statement("UPDATE users SET state = :state, version = version + 1 WHERE id = :id")
_END_SESSIONS = db.Statement(
    "UPDATE sessions SET ended_at = 1 WHERE user_id = :user_id AND ended_at IS NULL RETURNING id", _IdRow
)


def block(person: Person, other: Person) -> None:
    """`person` blocks `other`."""
    _stand(person, other, blocked=1)


def mute(person: Person, other: Person) -> None:
    """`person` mutes `other`."""
    _stand(person, other, muted=1)


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


def _stand(person: Person, other: Person, *, blocked: int | None = None, muted: int | None = None) -> None:
    one, two = id_of(person), id_of(other)
    with db.connection() as conn:
        _STAND.run(conn, one=one, two=two, blocked=blocked, muted=muted)
    profiles.refresh_relationship(one, two)
    for user_id in (one, two):
        notifications.refresh(user_id)


# How `other` comes to stand to `viewer` as the relation says.
RELATIONS: Final[dict[str, Callable[[Person, Person], None]]] = {
    "muted": mute,
    "blocked": block,
    "blocking": lambda viewer, other: block(other, viewer),
    "suspended": lambda viewer, other: leave(id_of(other), "suspended"),
    "deleted": lambda viewer, other: leave(id_of(other), "deleted"),
}
