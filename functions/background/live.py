"""Live events of what changed in Postgres."""

from shared.kernel.events import on
from shared.notifications import actions
from shared.notifications.model import NotificationChanged


@on(NotificationChanged)
def push_notification(event: NotificationChanged) -> None:
    """Tell a user's sockets of a notification, or that it was taken back; a read from then on shows the same."""
    actions.push(event)
