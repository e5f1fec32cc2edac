"""Mail."""

from shared.accounts import mail
from shared.accounts.model import SignupRequested
from shared.kernel.events import on


@on(SignupRequested)
def send_signup_mail(event: SignupRequested) -> None:
    """Mail the code of a signup."""
    mail.send_signup_mail(event)
