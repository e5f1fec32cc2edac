"""Notifications."""

from shared.accounts import reads as accounts
from shared.accounts.model import Me
from shared.kernel.endpoint import Caller, Encoded, endpoint
from shared.kernel.pages import Page, PageQuery
from shared.notifications import actions, reads
from shared.notifications.model import Notification


@endpoint("GET /v1/notifications", answers=Page[Notification])
async def list_notifications(caller: Caller, query: PageQuery) -> Encoded:
    """Your notifications, latest first. The subject of a `follow` is you, by username; else the post, by id."""
    return await reads.page(caller, query)


@endpoint("PUT /v1/notifications/read")
def mark_all_read(caller: Caller) -> Me:
    """Mark all notifications as read."""
    actions.mark_all_read(caller)
    return accounts.me(caller)
