"""Mails of a signup: no flood to one address, whoever asks for it."""

import time

from infra.local.stack import Stack
from shared.accounts import mail, model
from shared.kernel import db
from shared.profiles.store import IdRow
from tests.client import Mailbox, Visitor, wait_until

_SIGNUPS = db.Statement("SELECT id FROM signups WHERE email = :email ORDER BY id", IdRow)


def test_an_address_is_mailed_a_few_times_and_no_more(stack: Stack, visitor: Visitor) -> None:
    email = f"flooded{time.time_ns()}@example.com"
    for _ in range(model.PROOF_MAILS + 2):
        assert visitor.ask("POST", "/v1/signup", {"email": email}).status_code == 202
    box = Mailbox(stack.console, email)
    wait_until(lambda: len(box.mails()) == model.PROOF_MAILS)
    with db.connection() as conn:
        signups = _SIGNUPS.all(conn, email=email)
    for signup in signups:
        mail.send_signup_mail(model.SignupRequested(signup.id, email, True))
    assert len(box.mails()) == model.PROOF_MAILS
