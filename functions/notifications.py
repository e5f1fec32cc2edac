"""Notifications."""

from shared.accounts import reads as accounts
from shared.accounts.model import Me
from shared.kernel.endpoint import Caller, Encoded, NotificationId, endpoint
from shared.kernel.pages import Page, PageQuery
from shared.notifications import actions, reads
from shared.notifications.model import Notification, NotificationSettings, NotificationSettingsEdit


@endpoint("GET /v1/notifications", answers=Page[Notification])
async def list_notifications(caller: Caller, query: PageQuery) -> Encoded:
    """Your notifications, latest first. The subject of a `follow` is you, by username; else post or comment, by id."""
    return await reads.page(caller, query)


@endpoint("PUT /v1/notifications/{notification_id}/read", answers=Notification)
def mark_notification_read(caller: Caller, notification_id: NotificationId) -> Encoded:
    """Mark a notification as read. What happens in it later makes it unread again."""
    return actions.mark_read(caller, notification_id)


@endpoint("PUT /v1/notifications/read")
def mark_all_read(caller: Caller) -> Me:
    """Mark all notifications as read."""
    actions.mark_all_read(caller)
    return accounts.me(caller)


@endpoint("PATCH /v1/me/notification-settings")
def edit_notification_settings(caller: Caller, body: NotificationSettingsEdit) -> NotificationSettings:
    """Turn types of notifications on and off; what is left out stays as it is. All are on at first.

    What others do while a type is off is never told, not when it is on again either. What you were told before stays
    listed, and is still taken back.
    """
    return actions.edit_settings(caller, body)
