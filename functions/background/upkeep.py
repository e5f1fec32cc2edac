"""Upkeep by the clock."""

from shared.accounts import erasure, exports
from shared.accounts import upkeep as accounts
from shared.kernel import idempotency
from shared.kernel.events import on
from shared.kernel.upkeep import UpkeepDue


@on(UpkeepDue, in_thread=True)
def sweep_expired(event: UpkeepDue) -> None:
    """Delete what has expired, a batch at a time until none is left; look again through what was erased a day ago."""
    idempotency.sweep_expired()
    accounts.sweep_expired()
    exports.sweep_expired()
    erasure.look_again()
