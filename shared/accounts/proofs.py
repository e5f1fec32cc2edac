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
    """Begin to prove `email`, in the transaction of `conn`. Of one that is not open, no code is right."""
    begun = Begun(ids.new_id(), tokens.new_secret(), clock.now_ms() + model.PROOF_MS)
    store.BEGIN_PROOF.run(
        conn,
        id=begun.id,
        purpose=purpose,
        digest=tokens.digest(begun.token),
        email=email,
        open=is_open,
        key_id=tokens.code_for(purpose, begun.id)[1],
        now=begun.expires_at - model.PROOF_MS,
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


def is_flooded(proof_id: int) -> bool:
    """Whether the address was mailed too often of late, by whomever: its owner may never have asked."""
    most = model.PROOF_MAILS
    with db.connection() as conn:
        return len(store.EARLIER_PROOFS.all(conn, id=proof_id, window=model.PROOF_MS, most=most)) >= most


def code_to_mail(purpose: Purpose, proof_id: int) -> str | None:
    """The code to mail, derived anew; None when it is over, or none is right."""
    with db.connection() as conn:
        row = store.PROOF.maybe(conn, id=proof_id)
    return tokens.code_for(purpose, row.id, row.key_id)[0] if row is not None and row.open else None


def dead_token(purpose: Purpose) -> Invalid:
    """What is said of a token that was never given, is used up, or has had its time."""
    field, detail = _FIELDS[purpose]
    return Invalid.field(field, "invalid_token", detail)
