"""Mail."""

from shared.accounts import mail
from shared.accounts.model import SignupRequested
from shared.kernel.events import on


# A code is good for 15 minutes: nobody waits for it after these attempts.
@on(SignupRequested, max_attempts=40)
def send_signup_mail(event: SignupRequested) -> None:
    """Mail the code of a signup."""
    mail.send_signup_mail(event)
