"""Changing a password: with the current one, or by a code that is mailed."""

from shared.accounts import model, passwords, proofs, sessions, store
from shared.kernel import cache, db, events, ids
from shared.kernel.endpoint import Caller, Client
from shared.kernel.problems import FieldError, Invalid


def request_reset(body: model.ResetRequest) -> model.ResetStarted:
    """Begin a reset and have a code mailed. The same answer and work for an address that has no account."""
    email = model.normalise_email(body.email)
    with db.transaction() as conn:
        is_open = store.EMAIL_ACTIVE.maybe(conn, email=email) is not None
        begun = proofs.begin(conn, "password_reset", email, is_open=is_open)
        events.emit(conn, model.PasswordResetRequested(begun.id, email, is_open))
    events.after_commit()
    return model.ResetStarted(begun.token, begun.expires_at)


def verify_reset(body: model.ResetCode) -> model.ResetVerified:
    """Take the code; the token for the last step. Raises Invalid; a token dies with its fifth wrong code."""
    return model.ResetVerified(proofs.verify("password_reset", body.reset_token, body.code))


def complete_reset(body: model.ResetPassword) -> None:
    """Set the password, and end every session and what else was begun to reset it. Raises Invalid."""
    with db.connection() as conn:
        row = proofs.verified(conn, "password_reset", body.reset_token)
        owner = None if row is None else store.OWNER_BY_EMAIL.maybe(conn, email=row.email)
    if row is None or owner is None:
        raise proofs.dead_token("password_reset")
    _refuse_obvious(body.new_password, owner)
    fresh = passwords.hash_password(body.new_password)
    events.after_commit(*_reset(body.reset_token, row.email, fresh))


def _reset(token: str, email: str, fresh: str) -> list[cache.Command]:
    with db.transaction() as conn:
        # The account first, and locked: of several resets of one account at once the second finds its token gone.
        owner = store.LOCK_OWNER_BY_EMAIL.maybe(conn, email=email)
        proofs.take(conn, "password_reset", token)
        if owner is None:
            raise proofs.dead_token("password_reset")
        store.CHANGE_PASSWORD.run(conn, id=owner.id, fresh=fresh, old=owner.password_hash)
        store.END_PROOFS.run(conn, email=email, purpose="password_reset")
        # Whoever tried to guess the old one: the owner is not to wait for that.
        store.CLEAR_FAILURES.run(conn, subjects=sessions.account_subjects(owner.username, owner.email))
        commands = sessions.end_all(conn, owner.id)
        events.emit(conn, model.PasswordChanged(ids.new_id(), owner.id))
    return commands


def change(caller: Caller, client: Client, body: model.ChangedPassword) -> None:
    """Set another password; end the caller's other sessions, and what was begun to reset it.

    Raises Forbidden, Invalid, TooManyRequests.
    """
    owner = sessions.confirm(caller, client, body.current_password)
    _refuse_obvious(body.new_password, owner)
    fresh = passwords.hash_password(body.new_password)
    with db.transaction() as conn:
        if store.CHANGE_PASSWORD.maybe(conn, id=owner.id, fresh=fresh, old=owner.password_hash) is None:
            raise sessions.wrong_password()  # changed meanwhile: it was theirs no more
        # Somebody else may have begun to reset it: that is what one changes it for.
        store.END_PROOFS.run(conn, email=model.normalise_email(owner.email), purpose="password_reset")
        commands = sessions.end_all(conn, owner.id, but=caller.session_id)
        events.emit(conn, model.PasswordChanged(ids.new_id(), owner.id))
    events.after_commit(*commands)


def _refuse_obvious(password: str, owner: store.OwnerRow) -> None:
    faults: list[FieldError] = model.obvious_faults(password, owner.username, owner.email, field="new_password")
    if faults:
        raise Invalid(faults)
