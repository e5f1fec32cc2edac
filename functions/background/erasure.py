"""Erasing accounts that were deleted."""

from shared.accounts import erasure
from shared.accounts.model import ErasureDue
from shared.kernel.events import on


@on(ErasureDue, in_thread=True)
def erase_account(event: ErasureDue) -> None:
    """Erase what is left of a deleted account, as much as fits in a turn, and hand the rest on."""
    erasure.erase(event)
