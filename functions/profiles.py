"""Profiles and who follows whom."""

from shared.accounts import reads as accounts
from shared.accounts.model import Me
from shared.kernel.endpoint import Caller, Username, endpoint
from shared.profiles import actions, reads
from shared.profiles.model import Profile


@endpoint("GET /v1/me")
def get_me(caller: Caller) -> Me:
    """Your own profile, with what waits to be read."""
    return accounts.me(caller)


@endpoint("GET /v1/users/{username}")
async def get_profile(viewer: Caller | None, username: Username) -> Profile:
    """A user's profile. 404 if there is none, or one of you has blocked the other."""
    return await reads.profile(viewer, username)


@endpoint("PUT /v1/users/{username}/follow")
def follow(caller: Caller, username: Username) -> Profile:
    """Follow a user. Their posts show in your feed, older ones too. 422 for yourself."""
    return actions.follow(caller, username)


@endpoint("DELETE /v1/users/{username}/follow")
def unfollow(caller: Caller, username: Username) -> Profile:
    """Stop following a user. Their posts leave your feed."""
    return actions.unfollow(caller, username)
