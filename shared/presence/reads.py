"""Who is here: `presence:{user}` has until when they count as here, for each instance of the live service.

A user is here while any instance says so. Nobody has to take back what an instance said that was killed: it lapses.
"""

from typing import Any

from shared.kernel import cache, clock, ids
from shared.kernel.config import settings
from shared.presence.model import Presence


def away_ms() -> int:
    """How long a user counts as here after their last device went."""
    return settings().live_away_seconds * 1000


def key(user_id: int) -> str:
    """Where it is kept until when a user is here."""
    return f"presence:{ids.encode(user_id)}"


def ask(user_id: int) -> cache.Command:
    """The command for `until_in`."""
    return ("ZRANGE", key(user_id), -1, -1, "WITHSCORES")


def until_in(reply: Any) -> int:
    """Until when the user is or was here, by the reply to `ask`; 0 where it isn't known."""
    return int(reply[1]) if reply else 0


def presence_at(until: int) -> Presence:
    """The presence of who is or was here until then."""
    if until > clock.now_ms():
        return Presence("online", None)
    return Presence("offline", until - away_ms() if until else None)
