"""Proving an address with a mailed code, in three steps: to sign up, and to reset a password.

Each step has a token of its own; what is good for one purpose is unknown to the other.
"""

from typing import Literal

import msgspec

from shared.accounts import model, store
from shared.kernel import clock, db, ids, tokens
from shared.kernel.problems import Invalid

Purpose = Literal["signup", "password_reset"]
_FIELDS: dict[Purpose, tuple[str, str]] = {
    "signup": ("signup_token", "This signup has ended. Begin a new one."),
    "password_reset": ("reset_token", "This reset has ended. Begin a new one."),
}


class Begun(msgspec.Struct, frozen=True):
    """What was begun: its token is good until `expires_at`."""

    id: int
    token: str
    expires_at: int


def begin(conn: db.Connection, purpose: Purpose, email: str, *, is_open: bool) -> Begun:
    """Begin to prove `email`, in the transaction of `conn`. Of one that is not open, no code is right.

    Nor of one too many for the address, by whomever: its owner may never have asked.
    """
    now = clock.now_ms()
    begun = Begun(ids.new_id(), tokens.new_secret(), now + model.PROOF_MS)
    store.LOCK_PROOFS.one(conn, email=f"{purpose}:{email}")
    earlier = store.EARLIER_PROOFS.one(
        conn,
        email=email,
        purpose=purpose,
        recent=now - model.PROOF_MS,
        since=now - model.DAY_MS,
        most=model.PROOF_MAILS_A_DAY,
    )
    few = earlier.recent < model.PROOF_MAILS and earlier.today < model.PROOF_MAILS_A_DAY
    store.BEGIN_PROOF.run(
        conn,
        id=begun.id,
        purpose=purpose,
        digest=tokens.digest(begun.token),
        email=email,
        open=is_open and few,
        mailed=few,
        key_id=tokens.code_for(purpose, begun.id)[1],
        now=now,
        expires=begun.expires_at,
    )
    return begun


def verify(purpose: Purpose, token: str, code: str) -> str:
    """Take the code; the token for the last step. Raises Invalid; a token dies with its fifth wrong code."""
    digest, fresh = tokens.digest(token), tokens.new_secret()
    with db.connection() as conn:
        row = store.TRY_CODE.maybe(conn, digest=digest, purpose=purpose, now=clock.now_ms(), most=model.WRONG_CODES)
        if row is None:
            raise dead_token(purpose)
        expected, _ = tokens.code_for(purpose, row.id, row.key_id)
        # Compared where none is right, too: its time must tell nothing.
        right = tokens.matches(code, expected)
        if not (right and row.open):
            raise Invalid.field("code", "wrong_code", "This is not the code that was mailed.")
        if store.VERIFY.maybe(conn, id=row.id, digest=digest, fresh=tokens.digest(fresh)) is None:
            raise dead_token(purpose)
    return fresh


def verified(conn: db.Connection, purpose: Purpose, token: str) -> store.ProofRow | None:
    """What was proven with the token of the last step; None for one that isn't good."""
    return store.VERIFIED.maybe(conn, digest=tokens.digest(token), purpose=purpose, now=clock.now_ms())


def take(conn: db.Connection, purpose: Purpose, token: str) -> store.ProofRow:
    """Use up what was proven, in the transaction of `conn`: one of many at once gets it. Raises Invalid."""
    row = store.TAKE_VERIFIED.maybe(conn, digest=tokens.digest(token), purpose=purpose, now=clock.now_ms())
    if row is None:
        raise dead_token(purpose)
    return row


class ToMail(msgspec.Struct, frozen=True):
    """What to mail of one that is under way: the code, derived anew, or that none is right."""

    code: str | None


def to_mail(purpose: Purpose, proof_id: int) -> ToMail | None:
    """What to mail; None when it is over, or the address was mailed too often of late."""
    with db.connection() as conn:
        row = store.PROOF.maybe(conn, id=proof_id)
    if row is None or not row.mailed:
        return None
    return ToMail(tokens.code_for(purpose, row.id, row.key_id)[0] if row.open else None)


def dead_token(purpose: Purpose) -> Invalid:
    """What is said of a token that was never given, is used up, or has had its time."""
    field, detail = _FIELDS[purpose]
    return Invalid.field(field, "invalid_token", detail)
