"""Tickets for the live service."""

from shared.accounts import sessions
from shared.accounts.model import LiveTicket
from shared.kernel.endpoint import Caller, endpoint


@endpoint("POST /v1/live/tickets", status=201)
def create_live_ticket(caller: Caller) -> LiveTicket:
    """A ticket for one live connection within 30 s: for browsers, that can't send an Authorization field there."""
    return sessions.live_ticket(caller)
