"""Users in Redis: `card:{id}` the short card, `profile:{id}` the rest that others see, `username:{name}` the id.

`rows` makes the commands for users as read from Postgres: for the writer's own projection, for a background function,
for a miss, and for a rebuild. A user who is gone leaves tombstones.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from shared.kernel import cache, db, ids
from shared.kernel.projection import KEPT_SECONDS, put
from shared.profiles import store
from shared.profiles.model import Picture, ProfileCounts, UserCard


class Rest(msgspec.Struct, frozen=True):
    """What a profile has beyond the card."""

    bio: str
    links: list[str]
    counts: ProfileCounts


def card_key(user_id: int) -> str:
    """Where the short card is."""
    return f"card:{ids.encode(user_id)}"


def profile_key(user_id: int) -> str:
    """Where the rest of the profile is."""
    return f"profile:{ids.encode(user_id)}"


def username_key(username: str) -> str:
    """Where the id behind a username is."""
    return f"username:{username}"


def encoded(username: str, name: str, picture: dict[str, Any] | None) -> bytes:
    """A short card as JSON; `picture` has an object's name a size."""
    from shared.kernel import storage

    shown = Picture(**{size: storage.public_url(each) for size, each in picture.items()}) if picture else None
    return msgspec.json.encode(UserCard(username, name, shown))


def encoded_card(row: store.UserRow) -> bytes:
    """The short card as JSON; empty for a user who is gone."""
    return encoded(row.username, row.name, row.picture) if row.state == "active" else b""


def rest_of(row: store.UserRow) -> Rest:
    """What a profile has beyond the card."""
    return Rest(row.bio, row.links, ProfileCounts(row.post_count, row.follower_count, row.following_count))


def rest(row: store.UserRow) -> cache.Command:
    """The command that projects what a profile has beyond the card: all that a follow changes of it."""
    body = msgspec.json.encode(rest_of(row)) if row.state == "active" else b""
    return put(profile_key(row.id), row.version, body)


def rows(users: Iterable[store.UserRow]) -> list[cache.Command]:
    """The commands that project users."""
    commands: list[cache.Command] = []
    for row in users:
        commands.append(put(card_key(row.id), row.version, encoded_card(row)))
        commands.append(rest(row))
        commands.append(("SET", username_key(row.username), ids.encode(row.id), "EX", KEPT_SECONDS))
    return commands


def load(user_ids: Iterable[int]) -> list[store.UserRow]:
    """The users of Postgres, gone ones too."""
    with db.connection() as conn:
        return store.USERS.all(conn, ids=list(user_ids))
