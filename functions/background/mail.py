"""Mail."""

from shared.accounts import mail
from shared.accounts.model import (
    AccountErased,
    ExportMade,
    PasswordChanged,
    PasswordResetRequested,
    SignupRequested,
    SuspendedSignIn,
)
from shared.kernel.events import on


# A code is good for 15 minutes: nobody waits for it after these attempts.
@on(SignupRequested, max_attempts=40, in_thread=True)
def send_signup_mail(event: SignupRequested) -> None:
    """Mail the code of a signup."""
    mail.send_signup_mail(event)


@on(PasswordResetRequested, max_attempts=40, in_thread=True)
def send_reset_mail(event: PasswordResetRequested) -> None:
    """Mail the code of a password reset, or that the account is suspended."""
    mail.send_reset_mail(event)


@on(SuspendedSignIn, in_thread=True)
def send_suspension(event: SuspendedSignIn) -> None:
    """Tell the owner of a suspended account, who knows its password, why they can't sign in."""
    mail.send_suspension(event)


@on(PasswordChanged, in_thread=True)
def send_password_changed(event: PasswordChanged) -> None:
    """Tell the owner of an account that its password was changed."""
    mail.send_password_changed(event)


@on(ExportMade, in_thread=True)
def send_export_link(event: ExportMade) -> None:
    """Mail the link to an archive, and until when it is good."""
    mail.send_export_link(event)


@on(AccountErased, in_thread=True)
def send_farewell(event: AccountErased) -> None:
    """Tell the former owner of an account that all of it is erased."""
    mail.send_farewell(event)
