"""Signing up, in three steps."""

import msgspec

from shared.accounts import model, passwords, sessions, store
from shared.kernel import clock, db, events, ids, tokens
from shared.kernel.endpoint import Client
from shared.kernel.problems import Conflict, Invalid
from shared.profiles import reads as profiles
from shared.profiles.model import UserCard, UserChanged

_PURPOSE = "signup"


def request_signup(body: model.SignupRequest) -> model.SignupStarted:
    """Begin a signup and have a code mailed. The same answer and work for an address that has an account."""
    email = model.normalise_email(body.email)
    token, now, signup_id = tokens.new_secret(), clock.now_ms(), ids.new_id()
    _, key_id = tokens.code_for(_PURPOSE, signup_id)
    with db.transaction() as conn:
        is_open = store.EMAIL_TAKEN.maybe(conn, email=email) is None
        store.INSERT_SIGNUP.run(
            conn,
            id=signup_id,
            digest=tokens.digest(token),
            email=email,
            open=is_open,
            key_id=key_id,
            now=now,
            expires=now + model.SIGNUP_MS,
        )
        events.emit(conn, model.SignupRequested(signup_id, email, is_open))
    events.after_commit()
    return model.SignupStarted(token, now + model.SIGNUP_MS)


def verify_signup(body: model.SignupCode) -> model.SignupVerified:
    """Take the code; the token for the last step. Raises Invalid; a token dies with its fifth wrong code."""
    digest, fresh = tokens.digest(body.signup_token), tokens.new_secret()
    with db.connection() as conn:
        row = store.TRY_CODE.maybe(conn, digest=digest, now=clock.now_ms(), most=model.WRONG_CODES)
        if row is None:
            raise _dead_token()
        code, _ = tokens.code_for(_PURPOSE, row.id, row.key_id)
        # Compared for a closed signup too: its time must tell nothing.
        right = tokens.matches(body.code, code)
        if not (right and row.open):
            raise Invalid.field("code", "wrong_code", "This is not the code that was mailed.")
        if store.VERIFY.maybe(conn, id=row.id, digest=digest, fresh=tokens.digest(fresh)) is None:
            raise _dead_token()
    return model.SignupVerified(fresh)


def complete_signup(body: model.NewAccount, client: Client) -> model.SignedIn:
    """Make the account, and sign it in. Raises Invalid, Conflict("username_taken")."""
    digest = tokens.digest(body.signup_token)
    with db.connection() as conn:
        row = store.VERIFIED.maybe(conn, digest=digest, now=clock.now_ms())
    faults = model.obvious_faults(body.password, body.username, row.email if row else "")
    if row is None:
        raise Invalid([*(_dead_token().errors or []), *faults])
    if faults:
        raise Invalid(faults)
    # No connection is held while the hash is made: that is slow on purpose.
    password_hash = passwords.hash_password(body.password)
    try:
        user_id, opened = _register(body, digest, password_hash, client)
    except db.UniqueViolation as taken:
        if taken.constraint == "users_username":
            raise Conflict("username_taken", "This username is taken.") from None
        raise _dead_token() from None  # the address was registered meanwhile
    commands, cards = profiles.fresh([user_id])
    events.after_commit(*commands, *opened.commands)
    return model.SignedIn(msgspec.json.decode(cards[user_id].json, type=UserCard), opened.session)


def _register(
    body: model.NewAccount, digest: bytes, password_hash: str, client: Client
) -> tuple[int, "sessions.Opened"]:
    user_id, now = ids.new_id(), clock.now_ms()
    with db.transaction() as conn:
        row = store.TAKE_VERIFIED.maybe(conn, digest=digest, now=now)
        if row is None:
            raise _dead_token()
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


def is_flooded(event: model.SignupRequested) -> bool:
    """Whether the address was mailed too often of late, by whomever: its owner may never have asked."""
    most = model.SIGNUP_MAILS
    with db.connection() as conn:
        return len(store.EARLIER_SIGNUPS.all(conn, id=event.signup_id, window=model.SIGNUP_MS, most=most)) >= most


def signup_mail(event: model.SignupRequested) -> str | None:
    """The code to mail for a signup, derived anew; None when it is gone, or the address has an account."""
    with db.connection() as conn:
        row = store.SIGNUP_KEY.maybe(conn, id=event.signup_id)
    return tokens.code_for(_PURPOSE, row.id, row.key_id)[0] if row is not None and row.open else None


def _dead_token() -> Invalid:
    return Invalid.field("signup_token", "invalid_token", "This signup has ended. Begin a new one.")
