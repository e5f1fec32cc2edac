"""Deleting what of accounts has had its time."""

from typing import Final

from shared.accounts import store
from shared.accounts.model import DAY_MS
from shared.accounts.sessions import FORGOTTEN_MS
from shared.kernel import clock, upkeep

# Longer than Pub/Sub keeps an event, as a dead letter too: what was done once is not done again.
EFFECTS_KEPT_MS: Final = 60 * DAY_MS
# Longer than the tokens of a session that has ended are good.
SESSIONS_KEPT_MS: Final = DAY_MS
# How often an address asked for codes is counted over a day.
PROOFS_KEPT_MS: Final = DAY_MS


def sweep_expired() -> None:
    """Delete signups, failed logins, sessions and marks of effects that are over. Safe to run twice at once."""
    now = clock.now_ms()
    upkeep.sweep(store.DELETE_SIGNUPS, now - PROOFS_KEPT_MS)
    upkeep.sweep(store.DELETE_FAILURES, now - FORGOTTEN_MS)
    upkeep.sweep(store.DELETE_SESSIONS, now - SESSIONS_KEPT_MS)
    upkeep.sweep(store.DELETE_EFFECTS, now - EFFECTS_KEPT_MS)
