"""Cards and profiles: Redis first, Postgres behind it."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from shared.kernel import cache, db, guard, ids, running, single_flight
from shared.kernel.endpoint import Caller, Username
from shared.kernel.problems import NotFound
from shared.kernel.projection import body_of
from shared.live import publish as live
from shared.presence import reads as presences
from shared.presence.model import Presence
from shared.profiles import projection, store
from shared.profiles.model import Profile, ProfileViewer, UserCard
from shared.visibility import accepted
from shared.visibility import reads as visibility
from shared.visibility.model import Relation, may_see

# A user as statements of other features give them.
UserRow = store.UserRow


class Card(msgspec.Struct, frozen=True):
    """A user's short card, encoded as JSON."""

    user_id: int
    json: bytes


def ask_cards(user_ids: Sequence[int]) -> cache.Command:
    """The command for `take_cards`; `user_ids` may not be empty."""
    return ("MGET", *[projection.card_key(user_id) for user_id in user_ids])


async def take_cards(user_ids: Sequence[int], reply: Sequence[bytes | None]) -> dict[int, Card]:
    """The cards in the reply to `ask_cards`; misses from Postgres in one query. Who is gone is left out."""
    bodies = dict(zip(user_ids, map(body_of, reply), strict=True))
    missing = [user_id for user_id, body in bodies.items() if body is None]
    if missing:
        bodies.update(await _fill(missing))
    return {user_id: Card(user_id, body) for user_id, body in bodies.items() if body}


async def meet(viewer: Caller | None, user_ids: Sequence[int]) -> tuple[dict[int, Card], dict[int, Relation]]:
    """The cards of people, and how `viewer` stands to them, in one trip; a visitor stands to nobody."""
    commands = [ask_cards(user_ids), *([] if viewer is None else [visibility.ask(viewer.user_id, user_ids)])]
    try:
        replies: list[Any] = await cache.run(*commands)
    except cache.CacheUnavailable:
        replies = [[None] * len(user_ids), [None]]
    cards = await take_cards(user_ids, replies[0])
    return cards, {} if viewer is None else await visibility.take(viewer.user_id, user_ids, replies[1])


def load_cards_sync(user_ids: Iterable[int]) -> dict[int, Card]:
    """The cards of Postgres, for background functions."""
    return fresh(user_ids)[1]


def card(user_id: int, username: str, name: str, picture: dict[str, Any] | None) -> Card:
    """The card of a user who is there, of what another feature's statement read with its own."""
    return Card(user_id, projection.encoded(username, name, picture))


def fresh(user_ids: Iterable[int]) -> tuple[list[cache.Command], dict[int, Card]]:
    """The commands that project users as they are in Postgres now, and their cards: for those who changed them."""
    found = projection.load(user_ids)
    encoded = {row.id: projection.encoded_card(row) for row in found}
    return [*projection.rows(found), *projection.hidden(found)], {
        user_id: Card(user_id, body) for user_id, body in encoded.items() if body
    }


def card_of(row: UserRow) -> Card | None:
    """The card of a user as just read; None if they are gone."""
    body = projection.encoded_card(row)
    return Card(row.id, body) if body else None


def reachable(viewer_id: int, usernames: list[str]) -> dict[str, int]:
    """The ids of those among `usernames` whom `viewer_id` may mention: who exist, with no block between them."""
    found = named(usernames)
    relations = visibility.between(viewer_id, list(found.values())) if found else {}
    return {name: user_id for name, user_id in found.items() if may_see(relations[user_id])}


def named(usernames: list[str]) -> dict[str, int]:
    """The ids of those among `usernames` who exist."""
    if not usernames:
        return {}
    with db.connection() as conn:
        return {row.username: row.id for row in store.BY_USERNAMES.all(conn, usernames=usernames)}


def lasting(usernames: list[str]) -> dict[str, int]:
    """The ids of those among `usernames` who exist, or are suspended: who come back to what is theirs."""
    if not usernames:
        return {}
    with db.connection() as conn:
        return {row.username: row.id for row in store.LASTING.all(conn, usernames=usernames)}


def username_of(user_id: int) -> str | None:
    """The username of a user; None if they are gone."""
    rows = projection.load([user_id])
    return rows[0].username if rows and rows[0].state == "active" else None


async def _fill(user_ids: list[int]) -> dict[int, bytes]:
    found = await _load(user_ids)
    return {user_id: projection.encoded_card(row) for user_id, row in found.items()}


async def _load(user_ids: list[int]) -> dict[int, store.UserRow]:
    return await single_flight.each("user", user_ids, _load_together)


async def _load_together(user_ids: list[int]) -> dict[int, store.UserRow]:
    found = await running.on_loop(projection.load, user_ids)
    try:
        await cache.run(*projection.rows(found))
    except cache.CacheUnavailable:
        pass  # the answer is at hand; a later read fills the cache
    return {row.id: row for row in found}


async def resolve(username: Username) -> int:
    """The id behind a username; where it isn't known yet, by the request's first trip. Raises NotFound."""
    known = _ids.get(username)
    if known is not None:
        return known
    try:
        (found,) = await guard.first(("GET", projection.username_key(username)))
    except cache.CacheUnavailable:
        found = None
    if found is not None:
        return _remember(username, ids.decode(found.decode()))
    row = await single_flight.shared(("username", username), lambda: running.on_loop(_by_username, username))
    if row is None:
        raise NotFound("user_not_found")
    await _load([row.id])
    return _remember(username, row.id)


async def ids_of(usernames: Sequence[str]) -> dict[str, int]:
    """The ids behind usernames, of those gone too; in a trip where one isn't known yet. Who never was is left out."""
    found = {name: _ids[name] for name in usernames if name in _ids}
    missing = [name for name in usernames if name not in found]
    if missing:
        try:
            (replies,) = await cache.run(("MGET", *map(projection.username_key, missing)))
        except cache.CacheUnavailable:
            replies = [None] * len(missing)
        found |= {name: ids.decode(reply.decode()) for name, reply in zip(missing, replies, strict=True) if reply}
        missing = [name for name in missing if name not in found]
        found |= await single_flight.each("ids", missing, _load_ids) if missing else {}
        for name, user_id in found.items():
            _remember(name, user_id)
    return found


async def _load_ids(usernames: list[str]) -> dict[str, int]:
    return {row.username: row.id for row in await running.on_loop(_by_usernames, usernames)}


def _by_usernames(usernames: list[str]) -> list[store.NameRow]:
    with db.connection() as conn:
        return store.EVER_NAMED.all(conn, usernames=usernames)


# A username is its user's for good: whether they are still there is asked of their card.
_ids: dict[str, int] = {}


def _remember(username: str, user_id: int) -> int:
    if len(_ids) > 50_000:
        _ids.clear()
    _ids[username] = user_id
    return user_id


def _by_username(username: str) -> store.IdRow | None:
    with db.connection() as conn:
        return store.BY_USERNAME.maybe(conn, username=username)


async def profile(viewer: Caller | None, username: Username) -> Profile:
    """The profile of `username` as `viewer` may see it. Raises NotFound."""
    user_id = await resolve(username)
    return await profile_of(viewer, user_id)


async def profile_of(viewer: Caller | None, user_id: int) -> Profile:
    """The profile of a user as `viewer` may see it, in one trip. Raises NotFound."""
    keys = [projection.card_key(user_id), projection.profile_key(user_id)]
    asked: list[cache.Command] = []
    if viewer is not None:
        keys += [projection.profile_key(viewer.user_id), accepted.key(user_id, viewer.user_id)]
        asked = [visibility.ask(viewer.user_id, [user_id]), visibility.ask(user_id, [viewer.user_id])]
        asked.append(presences.ask(user_id))
    try:
        values, *replies = await guard.first(("MGET", *keys), *asked)
    except cache.CacheUnavailable:
        values, replies = [None, None], [[None], [None], None]  # who is here, nobody else knows
    card, rest = map(body_of, values[:2])
    if card is None or rest is None:
        row = (await _load([user_id])).get(user_id)
        if row is None or row.state != "active":
            raise NotFound("user_not_found")
        card, rest = projection.encoded_card(row), msgspec.json.encode(projection.rest_of(row))
    if not card or not rest:
        raise NotFound("user_not_found")
    more = msgspec.json.decode(rest, type=projection.Rest)
    seen: ProfileViewer | None = None
    presence: Presence | msgspec.UnsetType = msgspec.UNSET
    if viewer is not None:
        seen = await _viewer(viewer.user_id, user_id, replies[0], replies[1])
        is_known = replies[2] is not None and more.shows_presence
        if is_known and await _sees_presence(viewer.user_id, user_id, seen, *values[2:]):
            presence = presences.presence_at(presences.until_in(replies[2]))
    return Profile(msgspec.json.decode(card, type=UserCard), more.bio, more.links, more.counts, seen, presence)


async def _viewer(viewer_id: int, user_id: int, ours: Any, theirs: Any) -> ProfileViewer:
    if viewer_id == user_id:
        return ProfileViewer(following=False, followed_by=False, blocking=False, muting=False)
    mine, other = await asyncio.gather(
        visibility.take(viewer_id, [user_id], ours), visibility.take(user_id, [viewer_id], theirs)
    )
    relation = mine[user_id]
    if not may_see(relation):
        raise NotFound("user_not_found")
    return viewer_flags(relation, followed_by=other[viewer_id].following)


async def _sees_presence(
    viewer_id: int, user_id: int, seen: ProfileViewer, own: bytes | None, value: bytes | None
) -> bool:
    """Whether a viewer sees when somebody who shows it is here: who hides theirs sees nobody else's."""
    if viewer_id == user_id:
        return True
    rest = body_of(own)
    if rest is None:
        row = (await _load([viewer_id])).get(viewer_id)
        shows = row is not None and row.shows_presence
    else:
        shows = bool(rest) and msgspec.json.decode(rest, type=projection.Shows).shows_presence
    return shows and await accepted.shows_presence(user_id, viewer_id, follows=seen.followed_by, value=value)


def viewer_flags(relation: Relation, *, followed_by: bool) -> ProfileViewer:
    """How a viewer stands to a profile's owner."""
    return ProfileViewer(relation.following, followed_by, relation.blocking, relation.muting)


def own(user_id: int) -> Profile | None:
    """A user's profile as they see it themselves, of Postgres; None if they are gone."""
    rows = projection.load([user_id])
    if not rows or rows[0].state != "active":
        return None
    rest = projection.rest_of(rows[0])
    card = msgspec.json.decode(projection.encoded_card(rows[0]), type=UserCard)
    return Profile(card, rest.bio, rest.links, rest.counts, None)


def followers_after(user_id: int, after: int, limit: int) -> list[tuple[int, int]]:
    """Up to `limit` followers as (user, follow) ids, past the follow `after`: for work on all of them in chunks."""
    with db.connection() as conn:
        found = store.FOLLOWERS_AFTER.all(conn, user_id=user_id, after=after, limit=limit)
    return [(row.user_id, row.follow_id) for row in found]


def refresh(user_ids: Sequence[int], *, presence: bool = False) -> None:
    """Bring users in Redis up to date. Raises CacheUnavailable, DatabaseUnavailable.

    `presence`: they hide when they are here, or show it, from now on.
    """
    found = projection.load(user_ids)
    looked_at = [live.look_again(row.id) for row in found if presence]
    cache.run_sync(*projection.rows(found), *projection.hidden(found), *looked_at)


def refresh_relationship(user_id: int, other_id: int, *, block: bool = False) -> None:
    """Bring the relationship of two in Redis up to date, one direction. Raises as `refresh`.

    `block`: it may be that a block has ended.
    """
    with db.connection() as conn:
        row = store.RELATIONSHIP.maybe(conn, user_id=user_id, other_id=other_id)
    if row is not None:
        unblocked = projection.unblocked(row) if block else []
        cache.run_sync(*projection.relationship(row), *unblocked, *projection.hidden_between(row))


class UserState(msgspec.Struct, frozen=True):
    """A user, and whether they are there: also one who is suspended, whose follows are those they come back to."""

    id: int
    username: str
    active: bool


class FollowState(msgspec.Struct, frozen=True):
    """A follow, or one that was undone, or of which one is gone."""

    follower_id: int
    followee_id: int
    following: bool
    version: int


def states_of(user_ids: Sequence[int]) -> list[UserState]:
    """The users as they are in Postgres now, gone ones too."""
    return sorted(
        (UserState(row.id, row.username, row.state != "deleted") for row in projection.load(user_ids)),
        key=lambda user: user.id,
    )


def follows_among(pairs: Sequence[tuple[int, int]]) -> list[FollowState]:
    """The follows of (follower, followee) pairs as they are in Postgres now, undone ones too.

    While one of the two is gone it counts for undone.
    """
    with db.connection() as conn:
        rows = store.FOLLOWS_AMONG.all(conn, followers=[a for a, _ in pairs], followees=[b for _, b in pairs])
    return [FollowState(row.follower_id, row.followee_id, row.following, row.version) for row in rows]


def ids_after(after: int, limit: int) -> list[int]:
    """The ids of users past `after`, in order, gone ones too: for going through all of them."""
    with db.connection() as conn:
        return [row.id for row in store.IDS_AFTER.all(conn, after=after, limit=limit)]


def follows_of(user_ids: Sequence[int]) -> list[tuple[int, int]]:
    """Whom these users follow, of Postgres, as (follower, followee); also those who are gone."""
    with db.connection() as conn:
        rows = store.FOLLOWS_OF.all(conn, ids=list(user_ids))
    return [(row.follower_id, row.followee_id) for row in rows]
