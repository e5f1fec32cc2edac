"""Who is a moderator: asked of Postgres at each request, so that who is one no longer may do nothing from then on."""

from shared.kernel import db
from shared.kernel.endpoint import Caller
from shared.kernel.problems import Forbidden
from shared.moderation import store


def check_moderator(conn: db.Connection, caller: Caller) -> None:
    """Raises Forbidden("not_moderator")."""
    if store.MODERATOR.maybe(conn, id=caller.user_id) is None:
        raise Forbidden("not_moderator", "This is for moderators.")
