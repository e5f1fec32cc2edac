"""Sessions: signed in or not, asked of Redis on every request, with Postgres behind it.

`session:{id}` is "1" while it lives and "0" once it has ended. The end is written to both before the answer, and an
end is never overwritten: whoever says that a session lives sets the key only where there is none.
"""

from typing import Final

import msgspec

from shared.kernel import cache, clock, db, ids, running, tokens

# Longer than an access token lives: once the key of an ended session is gone, so are its tokens.
KEY_SECONDS: Final = 2 * tokens.ACCESS_SECONDS
TICKET_SECONDS: Final = 30


class _Live(msgspec.Struct, frozen=True):
    user_id: int


_LIVE = db.Statement(
    """SELECT s.user_id FROM sessions s JOIN users u ON u.id = s.user_id
       WHERE s.id = :id AND s.ended_at IS NULL AND s.refresh_expires_at > :now AND u.state = 'active'""",
    _Live,
)


def is_live_in_postgres(session_id: int) -> bool:
    """Whether the session lives, of Postgres alone."""
    with db.connection() as conn:
        return _LIVE.maybe(conn, id=session_id, now=clock.now_ms()) is not None


async def is_live(session_id: int) -> bool:
    """Whether the session lives, of Postgres; and Redis is told."""
    live = await running.on_loop(is_live_in_postgres, session_id)
    try:
        await cache.run(("SET", key(session_id), "1" if live else "0", "NX", "EX", KEY_SECONDS))
    except cache.CacheUnavailable:
        pass  # it is asked of Postgres until Redis is back
    return live


def key(session_id: int) -> str:
    """The session's key in Redis."""
    return f"session:{ids.encode(session_id)}"


def started(session_id: int) -> cache.Command:
    """The command that tells Redis of a new session."""
    return ("SET", key(session_id), "1", "NX", "EX", KEY_SECONDS)


def ended(session_id: int) -> cache.Command:
    """The command that tells Redis of an end. Run it after the commit and before the answer, and again if need be."""
    return ("SET", key(session_id), "0", "EX", KEY_SECONDS)


def ticket_issued(ticket: str, user_id: int, session_id: int) -> cache.Command:
    """The command that makes a live ticket good for 30 s."""
    return (
        "SET",
        _ticket_key(ticket),
        f"{ids.encode(user_id)}:{ids.encode(session_id)}",
        "EX",
        TICKET_SECONDS,
    )


async def redeem_ticket(ticket: str) -> tuple[int, int] | None:
    """The user and session of a live ticket, which is used up by that; None for one that isn't good."""
    (found,) = await cache.run(("GETDEL", _ticket_key(ticket)))
    if found is None:
        return None
    user, _, session = found.decode().partition(":")
    return ids.decode(user), ids.decode(session)


def _ticket_key(ticket: str) -> str:
    return f"ticket:{tokens.digest(ticket).hex()}"
