"""Users in Redis: `card:{id}` the short card, `profile:{id}` the rest that others see, `username:{name}` the id.

`rows` makes the commands for users as read from Postgres: for the writer's own projection, for a background function,
for a miss, and for a rebuild. A user who is gone leaves tombstones. `relationship` does so for how one stands to
another: into the gate's maps, and into the lists `followers:`, `following:`, `blocked:`, `muted:` of a user.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from shared.kernel import cache, db, ids
from shared.kernel.projection import KEPT_SECONDS, put
from shared.kernel.timeline import Place, Timeline, place
from shared.live import publish as live
from shared.profiles import store
from shared.profiles.model import Picture, ProfileCounts, UserCard
from shared.visibility import reads as visibility

FOLLOWERS: Final = Timeline("followers", keep=1000)
FOLLOWING: Final = Timeline("following", keep=1000)
BLOCKED: Final = Timeline("blocked", keep=1000)
MUTED: Final = Timeline("muted", keep=1000)


class Shows(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a user shows when they are here: not while it isn't known."""

    shows_presence: bool = False


class Rest(Shows, frozen=True):
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
    counts = ProfileCounts(row.post_count, row.follower_count, row.following_count)
    return Rest(row.bio, row.links, counts, shows_presence=row.shows_presence)


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


def entry_of(position: int, user_id: int) -> str:
    """A user in a list: the id that orders it, and theirs."""
    return ids.encode(position) + ids.encode(user_id)


def parts_of(entry: str) -> tuple[int, int]:
    """The ordering id and the user's of an entry."""
    return ids.decode(entry[: ids.LENGTH]), ids.decode(entry[ids.LENGTH :])


def relationship(row: store.RelationshipRow) -> list[cache.Command]:
    """The commands that project how one stands to another, but for the end of a block (`unblocked`)."""
    flags = visibility.flags(following=row.follow_id is not None, blocking=row.blocking, muting=row.muting)
    pair = ids.encode(row.user_id) + ids.encode(row.other_id)
    return [
        *([] if row.erased else visibility.changed(row.user_id, row.other_id, flags, row.version)),
        place(pair, row.version, _places(row)),
    ]


def hidden(users: Iterable[store.UserRow]) -> list[cache.Command]:
    """The commands that have no live event tell any more of those who are gone."""
    gone = [row for row in users if row.state != "active"]
    return [command for row in gone for command in (live.changed(row.id, row.version), live.look_again(row.id))]


def hidden_between(row: store.RelationshipRow) -> list[cache.Command]:
    """The commands that have no live event tell what one wants no more of, nor what a block hides from the other."""
    follows = row.follow_id is not None and not row.blocking and not row.muting
    commands = [] if follows else [live.changed(row.other_id, f"stand:{row.version}", row.user_id)]
    if row.block_id is not None:
        commands += [live.changed(row.user_id, f"block:{row.block_id}", row.other_id)]
        commands += [live.look_again(row.other_id, row.user_id)]
    # Who isn't followed sees no more when one is here.
    return commands if row.follow_id is not None else [*commands, live.look_again(row.user_id, row.other_id)]


def unblocked(row: store.RelationshipRow) -> list[cache.Command]:
    """The commands that tell the other that they are not blocked; none if they are."""
    if row.blocking:
        return []
    return [visibility.block_changed(row.user_id, row.other_id, row.version, blocking=False)]


def _places(row: store.RelationshipRow) -> list[Place]:
    listed = (
        (FOLLOWERS, row.other_id, row.user_id, row.follow_id),
        (FOLLOWING, row.user_id, row.other_id, row.follow_id),
        (BLOCKED, row.user_id, row.other_id, row.block_id),
        (MUTED, row.user_id, row.other_id, row.mute_id),
    )
    return [
        Place(timeline, owner, whose, None if position is None else entry_of(position, whose))
        for timeline, owner, whose, position in listed
        # A first version takes nothing out.
        if position is not None or row.version > 1
    ]


def load(user_ids: Iterable[int]) -> list[store.UserRow]:
    """The users of Postgres, gone ones too."""
    with db.connection() as conn:
        return store.USERS.all(conn, ids=list(user_ids))
