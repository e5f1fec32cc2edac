"""What changes a profile, who follows whom, who blocks or mutes whom."""

from typing import Any

import msgspec

from shared.accounts.model import ProfileEdit
from shared.feed.model import FEEDS
from shared.kernel import cache, clock, db, events, ids, log
from shared.kernel.endpoint import Caller, Username
from shared.kernel.problems import Invalid, NotFound
from shared.live import publish as live
from shared.media import actions as media
from shared.media.model import Variant
from shared.notifications import actions as notifications
from shared.profiles import projection, reads, store
from shared.profiles.model import NewPicture, Profile, UserCard, UserChanged
from shared.visibility.model import Relation


def edit(caller: Caller, change: ProfileEdit) -> None:
    """Change what of the caller's profile is given."""
    params: dict[str, Any] = {
        "name": change.name.strip() if change.name is not msgspec.UNSET else None,
        "bio": (change.bio or "").strip() if change.bio is not msgspec.UNSET else None,
        "sets_birthday": change.birthday is not msgspec.UNSET,
        "birthday": change.birthday or None,
        "links": msgspec.json.encode(change.links or []).decode() if change.links is not msgspec.UNSET else None,
    }
    shows = msgspec.UNSET if change.settings is msgspec.UNSET else change.settings.presence
    params["shows_presence"] = None if shows is msgspec.UNSET else shows
    if change == ProfileEdit():
        return
    # Who watches is told at once, and by the event again.
    told = [] if shows is msgspec.UNSET else [live.look_again(caller.user_id)]
    with db.transaction() as conn:
        row = store.EDIT.maybe(conn, user_id=caller.user_id, **params)
        if row is not None:
            events.emit(conn, UserChanged(caller.user_id, presence=bool(told)))
    _show(row, *told)


def change_picture(caller: Caller, new: NewPicture) -> None:
    """Show another picture, and let go of the one before. Raises Invalid with a fault for each bad object."""
    picture = msgspec.structs.asdict(new)
    with db.connection() as conn:
        shown = store.PICTURE.maybe(conn, user_id=caller.user_id)
    if shown is not None and shown.picture == picture:
        return  # a request that comes twice: these objects are attached, to this very picture
    wanted = [media.Wanted(size, name, "profile_picture", size, ("photo",)) for size, name in _sizes(new)]
    media.check(caller, wanted)
    _show(_set_picture(caller, msgspec.json.encode(picture).decode(), wanted))


def remove_picture(caller: Caller) -> None:
    """Show no picture, and let go of the one before."""
    _show(_set_picture(caller, None, []))


def _sizes(new: NewPicture) -> list[tuple[Variant, str]]:
    return [("small", new.small), ("medium", new.medium), ("large", new.large)]


def _set_picture(caller: Caller, picture: str | None, wanted: list[media.Wanted]) -> store.UserRow | None:
    owner = f"user:{ids.encode(caller.user_id)}"
    with db.transaction() as conn:
        # The user's row comes first: of two that change it at once the second lets go of what the first attached.
        row = store.SET_PICTURE.maybe(conn, user_id=caller.user_id, picture=picture)
        if row is not None:
            media.release(conn, owner)
            if wanted:
                media.attach(conn, caller, owner, wanted)
            events.emit(conn, UserChanged(caller.user_id))
    return row


def _show(row: store.UserRow | None, *told: cache.Command) -> None:
    if row is not None:
        events.after_commit(*projection.rows([row]), *told)


def follow(caller: Caller, username: Username) -> Profile:
    """Follow `username`. Raises Invalid for yourself, NotFound for one who is gone or across a block."""
    return _change(caller, username, store.FOLLOW, "follow", follow_id=ids.new_id())


def unfollow(caller: Caller, username: Username) -> Profile:
    """Stop following `username`, also where NotFound is raised for one who is suspended. Raises as `follow` does."""
    return _change(caller, username, store.UNFOLLOW, "unfollow")


def block(caller: Caller, username: Username) -> Profile:
    """Block `username`, which ends both follows. Their profile is answered this once.

    Raises Invalid for yourself, NotFound for one who is gone, or has blocked the caller: that one is blocked all the
    same.
    """
    return _stand(caller, username, store.BLOCK, "block", begins=True)


def unblock(caller: Caller, username: Username) -> Profile:
    """Block `username` no more, also where NotFound is raised; follows stay ended. Raises as `block` does."""
    return _stand(caller, username, store.UNBLOCK, "unblock", begins=False)


def mute(caller: Caller, username: Username) -> Profile:
    """Hide `username` from the caller's feed and notifications. Raises as `follow` does."""
    return _stand(caller, username, store.MUTE, "mute", begins=True)


def unmute(caller: Caller, username: Username) -> Profile:
    """Mute `username` no more, also where NotFound is raised. Raises as `follow` does."""
    return _stand(caller, username, store.UNMUTE, "unmute", begins=False)


def _change(caller: Caller, username: str, statement: db.Statement[store.FollowRow], verb: str, **more: int) -> Profile:
    params: dict[str, Any] = {"user_id": caller.user_id, "username": username, "now": clock.now_ms(), **more}
    params["trace"] = log.trace_id.get() or None
    with db.connection() as conn:
        row = statement.maybe(conn, **params)
        if row is not None and row.visible and not row.changed:
            # It was so already, or another request made it so while this one waited: what there is now, is asked anew.
            row = statement.maybe(conn, **params)
        if row is None or not (row.visible or row.changed):
            raise _refusal(conn, caller, username, verb)
    own = store.RelationshipRow(
        caller.user_id, row.followee_id, row.follow_id, None, row.mute_id, False, row.muting, row.version
    )
    events.after_commit(
        *projection.relationship(own),
        *projection.hidden_between(own),
        *map(projection.rest, row.users),
        FEEDS.drop(caller.user_id, row.followee_id, row.version),
    )
    relation = Relation(following=row.following, muting=row.muting)
    return _fresh_profile(row.followee_id, row.users, relation, followed_by=row.followed_by)


def _stand(
    caller: Caller, username: str, statement: db.Statement[store.StandRow], verb: str, *, begins: bool
) -> Profile:
    now = clock.now_ms()
    params: dict[str, Any] = {"user_id": caller.user_id, "username": username, "now": now}
    params |= {"at": now, "act_id": ids.new_id()} if begins else {"at": None, "act_id": None}
    with db.connection() as conn:
        row = statement.maybe(conn, trace=log.trace_id.get() or None, **params)
        if row is None:
            raise _refusal(conn, caller, username, verb)
    by_user = {relationship.user_id: relationship for relationship in row.relationships}
    own, theirs = by_user.get(caller.user_id), by_user.get(row.other_id)
    if row.changed:
        _tell(caller, row, own)
    if not row.visible:
        raise NotFound("user_not_found")
    relation = Relation() if own is None else Relation(own.follow_id is not None, own.blocking, own.muting)
    followed_by = theirs is not None and theirs.follow_id is not None
    return _fresh_profile(row.other_id, row.users, relation, followed_by=followed_by)


def _tell(caller: Caller, row: store.StandRow, own: store.RelationshipRow | None) -> None:
    both = row.relationships
    events.after_commit(
        *[command for relationship in both for command in projection.relationship(relationship)],
        *([] if own is None else projection.unblocked(own)),
        *([] if own is None else projection.hidden_between(own)),
        *map(projection.rest, row.users),
        *[FEEDS.drop(relationship.user_id, relationship.other_id, relationship.version) for relationship in both],
        *notifications.forgetting([caller.user_id, row.other_id]),
    )


def _refusal(conn: db.Connection, caller: Caller, username: str, verb: str) -> Exception:
    found = store.BY_USERNAME.maybe(conn, username=username)
    if found is not None and found.id == caller.user_id:
        return Invalid.field("username", "yourself", f"You can't {verb} yourself.")
    return NotFound("user_not_found")


def _fresh_profile(user_id: int, users: list[store.UserRow], relation: Relation, *, followed_by: bool) -> Profile:
    user = next(user for user in users if user.id == user_id)
    if user.state != "active":
        raise NotFound("user_not_found")  # suspended, or gone while this waited for the lock
    rest = projection.rest_of(user)
    return Profile(
        user=msgspec.json.decode(projection.encoded_card(user), type=UserCard),
        bio=rest.bio,
        links=rest.links,
        counts=rest.counts,
        viewer=reads.viewer_flags(relation, followed_by=followed_by),
    )
