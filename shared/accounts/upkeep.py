"""Deleting what of accounts has had its time."""

from typing import Final

from shared.accounts import erasure_store, store
from shared.accounts.sessions import FORGOTTEN_MS
from shared.kernel import clock, upkeep

DAY_MS: Final = 24 * 3600 * 1000
# Longer than Pub/Sub keeps an event, as a dead letter too: what was done once is not done again.
EFFECTS_KEPT_MS: Final = 60 * DAY_MS
# Longer than the tokens of a session that has ended are good.
SESSIONS_KEPT_MS: Final = DAY_MS
# When events that were under way at the end of an erasure have come, all but those that were dead letters.
ERASED_KEPT_MS: Final = DAY_MS


def sweep_expired() -> None:
    """Delete signups, failed logins, sessions and marks of effects that are over. Safe to run twice at once."""
    now = clock.now_ms()
    upkeep.sweep(store.DELETE_SIGNUPS, now)
    upkeep.sweep(store.DELETE_FAILURES, now - FORGOTTEN_MS)
    upkeep.sweep(store.DELETE_SESSIONS, now - SESSIONS_KEPT_MS)
    upkeep.sweep(store.DELETE_EFFECTS, now - EFFECTS_KEPT_MS)
    upkeep.sweep(erasure_store.PURGE_RELATIONSHIPS, now - ERASED_KEPT_MS)
