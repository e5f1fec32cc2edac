"""One's own account."""

import msgspec

from shared.accounts import store
from shared.accounts.model import Me, Settings, Unread
from shared.chat import reads as chats
from shared.kernel import db
from shared.kernel.endpoint import Caller
from shared.kernel.problems import NotFound
from shared.notifications import reads as notifications
from shared.profiles import reads as profiles


def me(caller: Caller) -> Me:
    """The caller's own profile, of Postgres: it has what is not cached (e-mail, birthday). Raises NotFound."""
    profile = profiles.own(caller.user_id)
    with db.connection() as conn:
        own = store.OWN.maybe(conn, id=caller.user_id)
    if profile is None or own is None:
        raise NotFound("user_not_found")
    return Me(
        user=profile.user,
        email=own.email,
        bio=profile.bio,
        birthday=own.birthday.isoformat() if own.birthday else None,
        links=profile.links,
        created_at=own.created_at,
        counts=profile.counts,
        unread=Unread(
            notifications=notifications.unread_count(caller.user_id), chats=chats.unread_count(caller.user_id)
        ),
        settings=Settings(
            **msgspec.structs.asdict(notifications.settings_of(caller.user_id)), presence=own.shows_presence
        ),
    )
