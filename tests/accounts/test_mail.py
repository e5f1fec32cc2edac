"""Mails of codes: no flood to one address, whoever asks for it."""

import time
from concurrent.futures import ThreadPoolExecutor
from email.message import Message as Mail

from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message

from infra.local.ports import free_port
from infra.local.stack import Stack
from shared.accounts import mail, model
from shared.kernel import db, ids, tokens
from shared.profiles.store import IdRow
from tests.client import Mailbox, Person, Visitor, standing_still, wait_until
from tests.servers import using

_RESETS = db.Statement("SELECT id FROM signups WHERE email = :email AND purpose = 'password_reset' ORDER BY id", IdRow)
_OPEN = db.Statement("SELECT id FROM signups WHERE email = :email AND purpose = 'password_reset' AND open", IdRow)
_AGE = db.Statement("UPDATE signups SET created_at = created_at - CAST(:ms AS bigint) WHERE email = :email")
_SIGNUPS = db.Statement("SELECT id FROM signups WHERE email = :email ORDER BY id", IdRow)

_UNMARK = db.Statement("DELETE FROM effects_done WHERE effect = 'mail:signup:' || CAST(:id AS text)")


class Relay(Message):
    """An SMTP server that keeps the mails it took."""

    def __init__(self) -> None:
        super().__init__()
        self.mails: list[Mail] = []

    def handle_message(self, message: Mail) -> None:
        self.mails.append(message)


def test_a_mail_that_comes_twice_has_one_message_id(stack: Stack, visitor: Visitor) -> None:
    """Sent, and Postgres died before that was written down: it is sent again, and who gets both can tell."""
    address = f"twice{time.time_ns()}@example.com"
    relay = Relay()
    server = Controller(relay, hostname="127.0.0.1", port=free_port())
    server.start()
    try:
        with standing_still(stack, "background"), using({"SMTP_URL": f"smtp://127.0.0.1:{server.port}"}):
            for _ in range(2):
                visitor.post("/v1/signup", {"email": address})
            with db.connection() as conn:
                first, second = (row.id for row in _SIGNUPS.all(conn, email=address))
            mail.send_signup_mail(model.SignupRequested(first, address, True))
            mail.send_signup_mail(model.SignupRequested(first, address, True))
            assert len(relay.mails) == 1
            with db.connection() as conn:
                _UNMARK.run(conn, id=ids.encode(first))
            mail.send_signup_mail(model.SignupRequested(first, address, True))
            mail.send_signup_mail(model.SignupRequested(second, address, True))
    finally:
        server.stop()
    one, again, other = relay.mails
    assert one["Message-ID"] == again["Message-ID"] != other["Message-ID"]
    assert one["Subject"] == again["Subject"]


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


def test_a_reset_too_many_can_not_be_guessed_either(stack: Stack, alice: Person, visitor: Visitor) -> None:
    started = [visitor.post("/v1/password-reset", {"email": alice.email}) for _ in range(model.PROOF_MAILS + 2)]
    box = Mailbox(stack.console, alice.email)
    wait_until(
        lambda: len([one for one in box.mails() if "new i9lyfe password" in one["subject"]]) == model.PROOF_MAILS
    )
    with db.connection() as conn:
        ids_of_resets = [row.id for row in _RESETS.all(conn, email=alice.email)]
    right = [tokens.code_for("password_reset", reset_id)[0] for reset_id in ids_of_resets]
    answers = [
        visitor.ask("POST", "/v1/password-reset/verify", {"reset_token": one["reset_token"], "code": code}).status_code
        for one, code in zip(started, right, strict=True)
    ]
    assert answers == [200] * model.PROOF_MAILS + [422] * 2


def test_many_at_once_for_one_address_are_counted(stack: Stack, alice: Person) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: Visitor(stack.api).post("/v1/password-reset", {"email": alice.email}), range(12)))
    with db.connection() as conn:
        assert len(_OPEN.all(conn, email=alice.email)) == model.PROOF_MAILS


def test_a_flood_of_resets_ends_after_twenty_a_day(stack: Stack, alice: Person, visitor: Visitor) -> None:
    for _ in range(model.PROOF_MAILS_A_DAY // model.PROOF_MAILS + 1):
        for _ in range(model.PROOF_MAILS):
            visitor.post("/v1/password-reset", {"email": alice.email})
        with db.connection() as conn:
            _AGE.run(conn, email=alice.email, ms=model.PROOF_MS)
    with db.connection() as conn:
        assert len(_OPEN.all(conn, email=alice.email)) == model.PROOF_MAILS_A_DAY


def test_a_flood_of_signups_keeps_nobody_from_a_reset(stack: Stack, alice: Person, visitor: Visitor) -> None:
    for _ in range(model.PROOF_MAILS + 1):
        visitor.post("/v1/signup", {"email": alice.email})
    visitor.post("/v1/password-reset", {"email": alice.email})
    box = Mailbox(stack.console, alice.email)
    wait_until(lambda: [one for one in box.mails() if "new i9lyfe password" in one["subject"]])
