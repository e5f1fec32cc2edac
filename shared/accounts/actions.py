"""Signing up, in three steps."""

from shared.accounts import model, passwords, proofs, sessions, store
from shared.kernel import clock, db, events, ids
from shared.kernel.endpoint import Client
from shared.kernel.problems import Conflict, Invalid
from shared.profiles.model import UserChanged


def request_signup(body: model.SignupRequest) -> model.SignupStarted:
    """Begin a signup and have a code mailed. The same answer and work for an address that has an account."""
    email = model.normalise_email(body.email)
    with db.transaction() as conn:
        is_open = store.EMAIL_TAKEN.maybe(conn, email=email) is None
        begun = proofs.begin(conn, "signup", email, is_open=is_open)
        events.emit(conn, model.SignupRequested(begun.id, email, is_open))
    events.after_commit()
    return model.SignupStarted(begun.token, begun.expires_at)


def verify_signup(body: model.SignupCode) -> model.SignupVerified:
    """Take the code; the token for the last step. Raises Invalid; a token dies with its fifth wrong code."""
    return model.SignupVerified(proofs.verify("signup", body.signup_token, body.code))


def complete_signup(body: model.NewAccount, client: Client) -> model.SignedIn:
    """Make the account, and sign it in. Raises Invalid, Conflict("username_taken")."""
    with db.connection() as conn:
        row = proofs.verified(conn, "signup", body.signup_token)
    if row is None:
        raise proofs.dead_token("signup")
    faults = model.obvious_faults(body.password, row.email)
    if faults:
        raise Invalid(faults)
    # No connection is held while the hash is made: that is slow on purpose.
    password_hash = passwords.hash_password(body.password)
    try:
        user_id, opened = _register(body, password_hash, client)
    except db.UniqueViolation as taken:
        if taken.constraint == "users_username":
            raise Conflict("username_taken", "This username is taken.") from None
        raise proofs.dead_token("signup") from None  # the address was registered meanwhile
    return sessions.signed_in(user_id, opened)


def _register(body: model.NewAccount, password_hash: str, client: Client) -> tuple[int, "sessions.Opened"]:
    user_id, now = ids.new_id(), clock.now_ms()
    with db.transaction() as conn:
        row = proofs.take(conn, "signup", body.signup_token)
        store.INSERT_USER.run(
            conn,
            id=user_id,
            username=body.username.lower(),
            email=row.email,
            name=body.name.strip(),
            bio=body.bio.strip(),
            birthday=body.birthday,
            password_hash=password_hash,
            now=now,
        )
        opened = sessions.open_session(conn, user_id, client)
        events.emit(conn, UserChanged(user_id))
    return user_id, opened
