"""The mails of accounts.

Each is marked as sent after it was: a crash in between sends it twice, with the same Message-ID, rather than never.
"""

from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from shared.accounts import erasure, exports, proofs, store
from shared.accounts.model import (
    AccountErased,
    ExportMade,
    PasswordChanged,
    PasswordResetRequested,
    SignupRequested,
    SuspendedSignIn,
)
from shared.kernel import db, events, ids, mail
from shared.moderation import reads as moderation


class _DoneRow(msgspec.Struct, frozen=True):
    done_at: int


_IS_DONE = db.Statement("SELECT done_at FROM effects_done WHERE effect = :effect", _DoneRow)


def send_signup_mail(event: SignupRequested) -> None:
    """Mail the code, or to the owner of an account that someone tried to sign up with their address."""
    effect = f"mail:signup:{ids.encode(event.signup_id)}"
    due = None if _is_done(effect) else proofs.to_mail("signup", event.signup_id)
    if due is None:
        return
    if due.code is not None:
        _send(effect, event.email, f"{due.code} is your i9lyfe code", "code", code=due.code)
    else:
        _send(effect, event.email, "You have an i9lyfe account already", "registered")


def send_reset_mail(event: PasswordResetRequested) -> None:
    """Mail the code of a password reset, or that the account is suspended.

    An address without an account is mailed nothing: it may be anyone's.
    """
    effect = f"mail:reset:{ids.encode(event.reset_id)}"
    due = None if _is_done(effect) else proofs.to_mail("password_reset", event.reset_id)
    if due is None:
        return
    if due.code is not None:
        subject = f"{due.code} is your code for a new i9lyfe password"
        _send(effect, event.email, subject, "reset_code", code=due.code)
        return
    with db.connection() as conn:
        owner = store.SUSPENDED_BY_EMAIL.maybe(conn, email=event.email)
    if owner is not None:
        _send_suspension(effect, owner)


def send_suspension(event: SuspendedSignIn) -> None:
    """Tell who can't sign in to a suspended account, though they know the password, why not."""
    effect = f"mail:suspended:{ids.encode(event.sign_in_id)}"
    with db.connection() as conn:
        owner = store.SUSPENDED.maybe(conn, id=event.user_id)
    if owner is not None and not _is_done(effect):
        _send_suspension(effect, owner)


def _send_suspension(effect: str, owner: store.OwnerRow) -> None:
    reason = moderation.why_suspended(owner.id).replace("_", " ")
    _send(effect, owner.email, "Your i9lyfe account is suspended", "suspended", username=owner.username, reason=reason)


def send_password_changed(event: PasswordChanged) -> None:
    """Tell the owner of an account that its password was changed: it may not have been them."""
    effect = f"mail:password:{ids.encode(event.change_id)}"
    with db.connection() as conn:
        owner = store.MAIL_TO.maybe(conn, id=event.user_id)
    if owner is not None and not _is_done(effect):
        _send(effect, owner.email, "Your i9lyfe password was changed", "password_changed", username=owner.username)


def send_export_link(event: ExportMade) -> None:
    """Mail the link to an archive, and until when it is good."""
    effect = f"mail:export:{ids.encode(event.export_id)}"
    if _is_done(effect):
        return
    link = exports.link(event)
    if link is not None:
        until = f"{datetime.fromtimestamp(link.expires_at / 1000, UTC):%-d %B %Y, %H:%M} UTC"
        values = {"username": link.username, "url": link.url, "until": until}
        _send(effect, link.email, "Your i9lyfe archive is ready", "export_ready", **values)


def send_farewell(event: AccountErased) -> None:
    """Tell the former owner of an account that all of it is erased, and forget the address."""
    effect = f"mail:erased:{ids.encode(event.erasure_id)}"
    email = erasure.former_address(event)
    if email is not None and not _is_done(effect):
        _send(effect, email, "Your i9lyfe account is erased", "erased")
    erasure.forget_address(event)


def _is_done(effect: str) -> bool:
    with db.connection() as conn:
        return _IS_DONE.maybe(conn, effect=effect) is not None


def _send(effect: str, to: str, subject: str, template: str, **values: str) -> None:
    text = _templates().get_template(f"{template}.txt").render(values)
    html = _templates().get_template(f"{template}.html").render(values)
    mail.send(to, subject, text, html, message_key=effect.replace(":", "."))
    with db.connection() as conn:
        events.first_time(conn, effect)


@cache
def _templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
