"""Accounts: signing up, signing in, sessions, passwords."""

from shared.accounts import actions, erasure, exports, model, password_changes, sessions
from shared.kernel import tokens
from shared.kernel.endpoint import Caller, Client, SessionId, WithCookie, endpoint
from shared.kernel.pages import Page, PageQuery


@endpoint("POST /v1/signup", status=202, limit="mail")
def request_signup(body: model.SignupRequest) -> model.SignupStarted:
    """Begin to sign up: a code of six digits is mailed, good for 15 minutes.

    The answer is the same for an address that has an account; its owner is mailed that instead.
    """
    return actions.request_signup(body)


@endpoint("POST /v1/signup/verify", limit="sign_in")
def verify_signup(body: model.SignupCode) -> model.SignupVerified:
    """Prove the address with the code. The token answered is for the last step; it dies with the fifth wrong code."""
    return actions.verify_signup(body)


@endpoint("POST /v1/signup/complete", status=201, limit="sign_in", answers=model.SignedIn)
def complete_signup(client: Client, body: model.NewAccount) -> WithCookie:
    """Make the account and sign it in. 409 `username_taken`."""
    return _with_cookie(actions.complete_signup(body, client))


@endpoint("POST /v1/login", limit="sign_in", answers=model.SignedIn)
def login(client: Client, body: model.Credentials) -> WithCookie:
    """Sign in with e-mail address or username. 401 `bad_credentials` whatever was wrong; throttled after failures."""
    return _with_cookie(sessions.login(body, client))


@endpoint("POST /v1/session/refresh", limit="sign_in", answers=model.Refreshed)
def refresh_session(client: Client, body: model.RefreshRequest) -> WithCookie:
    """Exchange the refresh token for new tokens and a new cookie. A token used twice ends its session.

    The cookie doesn't matter to it: it is asked for where that has gone with the access token that it holds.
    """
    return _with_cookie(sessions.refresh(body, client))


@endpoint("POST /v1/logout", status=204)
def logout(caller: Caller) -> WithCookie:
    """End this session at once, on HTTP and on open sockets, also for access tokens that haven't expired.

    With one that has expired it is 401 `token_expired`: refresh first. The cookie is gone by then.
    """
    sessions.logout(caller)
    return WithCookie(None, None)


@endpoint("GET /v1/me/sessions")
def list_sessions(caller: Caller, query: PageQuery) -> Page[model.Device]:
    """Your sessions that live, the latest first: one for each device that is signed in."""
    return sessions.devices(caller, query)


@endpoint("DELETE /v1/me/sessions/{session_id}", status=204)
def end_session(caller: Caller, session_id: SessionId) -> WithCookie | None:
    """End one of your sessions, at once, on HTTP and on open sockets. 404 for one that has ended or isn't yours."""
    sessions.end(caller, session_id)
    return WithCookie(None, None) if session_id == caller.session_id else None


@endpoint("DELETE /v1/me/sessions")
def end_other_sessions(caller: Caller) -> None:
    """End all your sessions but this one, at once, on HTTP and on open sockets."""
    sessions.end_others(caller)


@endpoint("POST /v1/password-reset", status=202, limit="mail")
def request_password_reset(body: model.ResetRequest) -> model.ResetStarted:
    """Begin to reset a password: a code of six digits is mailed, good for 15 minutes.

    The answer is the same for an address that has no account, which is mailed nothing.
    """
    return password_changes.request_reset(body)


@endpoint("POST /v1/password-reset/verify", limit="sign_in")
def verify_password_reset(body: model.ResetCode) -> model.ResetVerified:
    """Prove the address with the code. The token answered is for the last step; it dies with the fifth wrong code."""
    return password_changes.verify_reset(body)


@endpoint("POST /v1/password-reset/complete", limit="sign_in")
def complete_password_reset(body: model.ResetPassword) -> None:
    """Set the password. Every session ends, and so does any other reset under way; you are mailed that it was changed.

    Sign in anew after it; failed logins of the account are forgotten.
    """
    password_changes.complete_reset(body)


@endpoint("PUT /v1/me/password", limit="sign_in")
def change_password(caller: Caller, client: Client, body: model.ChangedPassword) -> None:
    """Change your password. Your other sessions end, this one lives; you are mailed that it was changed.

    403 `wrong_password` if the current one is wrong, throttled after failures as logins are.
    """
    password_changes.change(caller, client, body)


@endpoint("DELETE /v1/me", status=204, limit="sign_in")
def delete_account(caller: Caller, client: Client, body: model.Confirmation) -> WithCookie:
    """Delete your account. Every session ends, and nothing of yours is shown from now on; there is no way back.

    What is held on you is erased in the background; you are mailed when that is done. The address is free for another
    account at once; the username stays reserved, so that nobody is taken for you. 403 `wrong_password`, throttled after
    failures as logins are.
    """
    erasure.delete_account(caller, client, body)
    return WithCookie(None, None)


@endpoint("POST /v1/me/export", status=202)
def export_account(caller: Caller) -> model.Export:
    """Have an archive made of all that is held on you: a ZIP of JSON files, with links to your media.

    Its link is mailed to you, and good for three days. One a day: 429 `one_export_a_day` says when the next can be.
    """
    return exports.request(caller)


def _with_cookie(answer: model.SignedIn | model.Refreshed) -> WithCookie:
    # It goes when its token does: after that a browser is a visitor, not someone whom everything refuses. To refresh
    # takes the refresh token in the body, and no cookie.
    return WithCookie(answer, answer.session.access_token, tokens.ACCESS_SECONDS)
