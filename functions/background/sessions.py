"""Sessions that have ended."""

from shared.accounts import sessions
from shared.accounts.model import SessionEnded
from shared.kernel.events import on


@on(SessionEnded)
def stop_session(event: SessionEnded) -> None:
    """Stop a session where its end could not be told: Redis timed out, or the process died after the commit."""
    sessions.stop(event)
