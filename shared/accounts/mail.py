"""The mails of a signup."""

from functools import cache
from pathlib import Path

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from shared.accounts import actions
from shared.accounts.model import SignupRequested
from shared.kernel import clock, db, ids, mail

_MARK = db.Statement("INSERT INTO effects_done (effect, done_at) VALUES (:effect, :now) ON CONFLICT DO NOTHING")


class _DoneRow(msgspec.Struct, frozen=True):
    done_at: int


_IS_DONE = db.Statement("SELECT done_at FROM effects_done WHERE effect = :effect", _DoneRow)


def send_signup_mail(event: SignupRequested) -> None:
    """Mail the code, or to the owner of an account that someone tried to sign up with their address.

    Marked after it was sent: a crash in between sends it twice, with the same Message-ID, rather than never.
    """
    effect = f"mail:signup:{ids.encode(event.signup_id)}"
    with db.connection() as conn:
        if _IS_DONE.maybe(conn, effect=effect) is not None:
            return
    if actions.is_flooded(event):
        return
    code = actions.signup_mail(event)
    if code is None and event.open:
        return  # the signup is over: its code is good for nothing
    name = "code" if code is not None else "registered"
    subject = f"{code} is your i9lyfe code" if code is not None else "You have an i9lyfe account already"
    text = _templates().get_template(f"{name}.txt").render(code=code)
    html = _templates().get_template(f"{name}.html").render(code=code)
    mail.send(event.email, subject, text, html, message_key=effect.replace(":", "."))
    with db.connection() as conn:
        _MARK.run(conn, effect=effect, now=clock.now_ms())


@cache
def _templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
