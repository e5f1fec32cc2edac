"""What changes who follows whom."""

from typing import Any

import msgspec

from shared.feed.model import FEEDS
from shared.kernel import clock, db, events, ids, log
from shared.kernel.endpoint import Caller, Username
from shared.kernel.problems import Invalid, NotFound
from shared.profiles import projection, reads, store
from shared.profiles.model import Profile, UserCard
from shared.visibility import reads as visibility
from shared.visibility.model import Relation


def follow(caller: Caller, username: Username) -> Profile:
    """Follow `username`. Raises Invalid for yourself, NotFound for one who is gone or across a block."""
    return _change(caller, username, store.FOLLOW, follow_id=ids.new_id())


def unfollow(caller: Caller, username: Username) -> Profile:
    """Stop following `username`. Raises as `follow` does."""
    return _change(caller, username, store.UNFOLLOW)


def _change(caller: Caller, username: str, statement: db.Statement[store.FollowRow], **more: int) -> Profile:
    params: dict[str, Any] = {"user_id": caller.user_id, "username": username, "now": clock.now_ms(), **more}
    params["trace"] = log.trace_id.get() or None
    with db.connection() as conn:
        row = statement.maybe(conn, **params)
        if row is not None and row.visible and not row.changed:
            # It was so already, or another request made it so while this one waited: what there is now, is asked anew.
            row = statement.maybe(conn, **params)
        if row is None or not row.visible:
            raise _refusal(conn, caller, username)
    flags = visibility.flags(following=row.following, blocking=False, muting=row.muting)
    events.after_commit(
        *visibility.changed(caller.user_id, row.followee_id, flags, row.version),
        *map(projection.rest, row.users),
        FEEDS.drop(caller.user_id, row.followee_id, row.version),
    )
    return _fresh_profile(row)


def _refusal(conn: db.Connection, caller: Caller, username: str) -> Exception:
    found = store.BY_USERNAME.maybe(conn, username=username)
    if found is not None and found.id == caller.user_id:
        return Invalid.field("username", "yourself", "You can't follow yourself.")
    return NotFound("user_not_found")


def _fresh_profile(row: store.FollowRow) -> Profile:
    user = next(user for user in row.users if user.id == row.followee_id)
    rest = projection.rest_of(user)
    relation = Relation(following=row.following, muting=row.muting)
    return Profile(
        user=msgspec.json.decode(projection.encoded_card(user), type=UserCard),
        bio=rest.bio,
        links=rest.links,
        counts=rest.counts,
        viewer=reads.viewer_flags(relation, followed_by=row.followed_by),
    )
