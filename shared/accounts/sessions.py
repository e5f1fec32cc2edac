"""Signing in and out: sessions, their rotating refresh tokens, throttled logins."""

import msgspec

from shared.accounts import model, passwords, store
from shared.kernel import cache, clock, db, events, ids, tokens
from shared.kernel import sessions as live_sessions
from shared.kernel.config import settings
from shared.kernel.endpoint import Caller, Client, SessionId
from shared.kernel.pages import Page, PageQuery, cursor
from shared.kernel.problems import Forbidden, NotFound, TooManyRequests, Unauthorized
from shared.live import publish
from shared.profiles import reads as profiles
from shared.profiles.model import UserCard

# Free tries, then twice the wait with each failure, up to a quarter of an hour; forgotten after a day.
FREE_TRIES = 5
_FREE_TRIES_OF_AN_ADDRESS = 20
LONGEST_WAIT_MS = 15 * 60 * 1000
FORGOTTEN_MS = 24 * 3600 * 1000


class Opened(msgspec.Struct, frozen=True):
    """A session just opened or refreshed, and the commands that tell Redis of it after the commit."""

    session: model.Session
    commands: list[cache.Command]


def open_session(conn: db.Connection, user_id: int, client: Client) -> Opened:
    """Open a session in the transaction of `conn`."""
    session_id = ids.new_id()
    session, digest = _issue(user_id, session_id)
    store.INSERT_SESSION.run(
        conn,
        id=session_id,
        user_id=user_id,
        digest=digest,
        user_agent=client.user_agent,
        now=clock.now_ms(),
        expires=session.refresh_expires_at,
    )
    return Opened(session, [live_sessions.started(session_id)])


def login(body: model.Credentials, client: Client) -> model.SignedIn:
    """Sign in. One message for every failure. Raises Unauthorized, TooManyRequests."""
    typed = model.normalise_email(body.login)
    # Throttled by what was typed, so that an account that isn't there throttles like one that is.
    account, address = account_subject(typed), f"address:{client.address}"
    with db.transaction() as conn:
        _count_try(conn, [account], address)
        row = store.BY_LOGIN.maybe(conn, login=typed)
    right = passwords.verify_password(row.password_hash if row else None, body.password)
    if row is not None and right and row.state == "suspended":
        _tell_of_suspension(row.id)
    if row is None or not right or row.state != "active":
        raise _bad_credentials()
    fresh_hash = passwords.hash_password(body.password) if passwords.is_outdated(row.password_hash) else None
    with db.transaction() as conn:
        if store.STILL.maybe(conn, id=row.id, password_hash=row.password_hash) is None:
            raise _bad_credentials()  # changed, or gone, while the hash was made
        _forgive(conn, [account], address)
        if fresh_hash is not None:
            store.SET_PASSWORD_HASH.run(conn, id=row.id, fresh=fresh_hash, old=row.password_hash)
        opened = open_session(conn, row.id, client)
    return signed_in(row.id, opened)


def _tell_of_suspension(user_id: int) -> None:
    """Have the owner mailed, once a day: the answer is that of every failure."""
    with db.transaction() as conn:
        if events.first_time(conn, f"suspended:{ids.encode(user_id)}:{clock.now_ms() // model.DAY_MS}"):
            events.emit(conn, model.SuspendedSignIn(ids.new_id(), user_id))
    events.after_commit()


def signed_in(user_id: int, opened: Opened) -> model.SignedIn:
    """What who signs in is answered, after the commit. Raises Unauthorized if the account is gone already."""
    commands, cards = profiles.fresh([user_id])
    events.after_commit(*commands, *opened.commands)
    if user_id not in cards:
        raise _bad_credentials()
    return model.SignedIn(msgspec.json.decode(cards[user_id].json, type=UserCard), opened.session)


def confirm(caller: Caller, client: Client, password: str) -> store.OwnerRow:
    """The caller, whose password was asked for again; throttled as a login is. Raises Forbidden, TooManyRequests.

    It counts as a login by whatever may be typed: a stolen session gives nobody tries of their own.
    """
    address = f"address:{client.address}"
    with db.transaction() as conn:
        row = store.OWNER.maybe(conn, id=caller.user_id)
        if row is None:
            raise wrong_password()  # gone meanwhile
        accounts = account_subjects(row.username, row.email)
        _count_try(conn, accounts, address)
    if not passwords.verify_password(row.password_hash, password):
        raise wrong_password()
    with db.transaction() as conn:
        _forgive(conn, accounts, address)
    return row


def wrong_password() -> Forbidden:
    """What is said to one who is signed in, and gives a password that isn't theirs."""
    return Forbidden("wrong_password", "This is not your password.")


def account_subject(typed: str) -> str:
    """Under what wrong passwords are counted where this was typed to sign in."""
    return f"account:{tokens.digest(typed).hex()}"


def account_subjects(username: str, email: str) -> list[str]:
    """The subjects of all that may be typed to sign in to an account."""
    return [account_subject(username), account_subject(model.normalise_email(email))]


def devices(caller: Caller, query: PageQuery) -> Page[model.Device]:
    """A page of the caller's sessions, the latest first. Of Postgres: it is asked for too seldom to be cached."""
    before = query.before("l")
    with db.connection() as conn:
        rows = store.DEVICES.all(
            conn,
            user_id=caller.user_id,
            before=ids.MAX if before is None else before,
            now=clock.now_ms(),
            limit=query.limit + 1,
        )
    page = rows[: query.limit]
    return Page(
        [
            model.Device(
                ids.encode(row.id), row.created_at, row.last_used_at, row.user_agent, row.id == caller.session_id
            )
            for row in page
        ],
        cursor("l", page[-1].id) if len(rows) > len(page) else None,
    )


def end(caller: Caller, session_id: SessionId) -> None:
    """End one of the caller's sessions. Raises NotFound for one that has ended, or is another's."""
    with db.transaction() as conn:
        if not _end(conn, caller.user_id, session_id):
            raise NotFound("session_not_found")
    events.after_commit(*_end_commands(caller.user_id, session_id))


def end_others(caller: Caller) -> None:
    """End all of the caller's sessions but this one."""
    with db.transaction() as conn:
        commands = end_all(conn, caller.user_id, but=caller.session_id)
    events.after_commit(*commands)


def refresh(body: model.RefreshRequest, client: Client) -> model.Refreshed:
    """New tokens for the refresh token. One used before ends its session. Raises Unauthorized."""
    session_id = _session_in(body.refresh_token)
    with db.transaction() as conn:
        digest = tokens.digest(body.refresh_token)
        row = store.FIND_SESSION.maybe(conn, id=session_id, digest=digest, now=clock.now_ms())
        if row is None:
            raise _bad_refresh()
        session, fresh = _issue(row.user_id, row.id)
        if row.current:
            store.ROTATE.run(
                conn,
                id=row.id,
                fresh=fresh,
                now=clock.now_ms(),
                expires=session.refresh_expires_at,
                user_agent=client.user_agent,
            )
        else:
            _end(conn, row.user_id, row.id)
    if not row.current:
        # Someone else has the token: whoever it is, the session ends for both.
        events.after_commit(*_end_commands(row.user_id, row.id))
        raise _bad_refresh()
    # Redis is told nothing: it knows that the session lives, or asks; and by now it may have ended.
    return model.Refreshed(session)


def logout(caller: Caller) -> None:
    """End the caller's session, at once and everywhere."""
    with db.transaction() as conn:
        _end(conn, caller.user_id, caller.session_id)
    # Before the answer; should Redis not hear it, the background function tells it.
    events.after_commit(*_end_commands(caller.user_id, caller.session_id))


def end_all(conn: db.Connection, user_id: int, but: int | None = None) -> list[cache.Command]:
    """End every session of a user, but the one given, in the transaction of `conn`; the commands for after the commit.

    Change the user's row first, in the same transaction: a login under way waits for that, and is then refused.
    """
    ended = [row.id for row in store.END_SESSIONS.all(conn, user_id=user_id, but=but, now=clock.now_ms())]
    events.emit(conn, *[model.SessionEnded(user_id, session_id) for session_id in ended])
    return [command for session_id in ended for command in _end_commands(user_id, session_id)]


def stop(event: model.SessionEnded) -> None:
    """Tell Redis and the session's sockets of its end, should the request have failed to. Raises CacheUnavailable."""
    cache.run_sync(*_end_commands(event.user_id, event.session_id))


def live_ticket(caller: Caller) -> model.LiveTicket:
    """A ticket for one live connection. Raises CacheUnavailable: without Redis there is nothing live."""
    ticket = tokens.new_secret()
    cache.run_sync(live_sessions.ticket_issued(ticket, caller.user_id, caller.session_id))
    return model.LiveTicket(ticket, clock.now_ms() + live_sessions.TICKET_SECONDS * 1000)


def _issue(user_id: int, session_id: int) -> tuple[model.Session, bytes]:
    access, expires_at = tokens.issue_access(user_id, session_id)
    name = ids.encode(session_id)
    refresh = f"{name}.{tokens.new_secret()}"
    session = model.Session(name, access, expires_at, refresh, clock.now_ms() + model.REFRESH_MS)
    return session, tokens.digest(refresh)


def _session_in(refresh_token: str) -> int:
    try:
        return ids.decode(refresh_token.partition(".")[0])
    except ValueError:
        raise _bad_refresh() from None


def _bad_credentials() -> Unauthorized:
    return Unauthorized("bad_credentials", "The login or the password is wrong.")


def _bad_refresh() -> Unauthorized:
    return Unauthorized("invalid_refresh_token", "This refresh token is not good, or no longer. Sign in again.")


def free_tries_of_an_address() -> int:
    """Scaled like every limit: where one machine plays every client, all come from one address."""
    return _FREE_TRIES_OF_AN_ADDRESS * settings().rate_limit_scale


def _count_try(conn: db.Connection, accounts: list[str], address: str) -> None:
    now = clock.now_ms()
    subjects = [*accounts, address]
    throttle: dict[str, object] = {
        "subjects": subjects,
        "free": [*[FREE_TRIES] * len(accounts), free_tries_of_an_address()],
        "longest": LONGEST_WAIT_MS,
        "forgotten": now - FORGOTTEN_MS,
    }
    if len(store.COUNT_TRY.all(conn, now=now, **throttle)) < len(subjects):
        # What is raised rolls back: a try that was refused counts for neither.
        wait = store.WAITS_UNTIL.one(conn, **throttle).until - now
        raise TooManyRequests(max(1, -(-wait // 1000)), "too_many_logins")


def _forgive(conn: db.Connection, accounts: list[str], address: str) -> None:
    store.CLEAR_FAILURES.run(conn, subjects=accounts)
    # Not cleared: who owns one account could else try others' for ever.
    store.TAKE_BACK_TRY.run(conn, subject=address, waited=clock.now_ms() - LONGEST_WAIT_MS)


def _end(conn: db.Connection, user_id: int, session_id: int) -> bool:
    if store.END_SESSION.maybe(conn, id=session_id, user_id=user_id, now=clock.now_ms()) is None:
        return False
    events.emit(conn, model.SessionEnded(user_id, session_id))
    return True


def _end_commands(user_id: int, session_id: int) -> list[cache.Command]:
    return [live_sessions.ended(session_id), publish.session_ended(user_id, session_id)]
