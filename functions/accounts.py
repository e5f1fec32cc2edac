"""Accounts: signing up, signing in, sessions."""

from shared.accounts import actions, model, sessions
from shared.kernel import tokens
from shared.kernel.endpoint import Caller, Client, WithCookie, endpoint


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
    """Exchange the refresh token for new tokens. A token used twice ends its session."""
    return _with_cookie(sessions.refresh(body, client))


@endpoint("POST /v1/logout", status=204)
def logout(caller: Caller) -> WithCookie:
    """End this session at once, on HTTP and on open sockets, also for access tokens that haven't expired."""
    sessions.logout(caller)
    return WithCookie(None, None)


def _with_cookie(answer: model.SignedIn | model.Refreshed) -> WithCookie:
    # It goes when its token does: after that a browser is a visitor, not someone whom everything refuses. To refresh
    # takes the refresh token in the body, and no cookie.
    return WithCookie(answer, answer.session.access_token, tokens.ACCESS_SECONDS)
