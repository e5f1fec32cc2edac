"""Exports: making archives, and deleting those whose links are over."""

from shared.accounts import exports
from shared.accounts.model import ExportRequested, ExportsExpired
from shared.kernel.events import on


@on(ExportRequested, in_thread=True)
def make_export(event: ExportRequested) -> None:
    """Make the archive of all that is held on a user."""
    exports.make(event)


@on(ExportsExpired, in_thread=True)
def delete_exports(event: ExportsExpired) -> None:
    """Delete archives whose links are over."""
    exports.delete(event)
