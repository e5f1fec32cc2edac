"""Media in storage: deleting what nothing holds."""

from shared.kernel.events import on
from shared.media import actions
from shared.media.model import MediaReleased, OrphansDue


@on(OrphansDue, in_thread=True)
def sweep_uploads(event: OrphansDue) -> None:
    """Release uploads that were never attached, a batch at a time until none is left."""
    while actions.sweep_orphans() == actions.SWEEP_BATCH:
        pass


@on(MediaReleased, in_thread=True)
def delete_media(event: MediaReleased) -> None:
    """Delete released objects. Those already gone are as they should be."""
    actions.delete(event.objects)
