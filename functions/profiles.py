"""Profiles, who follows whom, blocks and mutes."""

from shared.accounts import reads as accounts
from shared.accounts.model import Me, ProfileEdit
from shared.kernel.endpoint import Caller, Username, endpoint
from shared.profiles import actions, reads
from shared.profiles.model import NewPicture, Profile


@endpoint("GET /v1/me")
def get_me(caller: Caller) -> Me:
    """Your own profile, with what waits to be read."""
    return accounts.me(caller)


@endpoint("PATCH /v1/me")
def edit_profile(caller: Caller, body: ProfileEdit) -> Me:
    """Change your profile: what is absent stays as it is; null clears the bio, the birthday or the links.

    A name has 1 to 50 characters, a bio up to 150, a link up to 200; there can be 5 links, http or https.
    """
    actions.edit(caller, body)
    return accounts.me(caller)


@endpoint("PUT /v1/me/picture")
def change_profile_picture(caller: Caller, body: NewPicture) -> Me:
    """Show another profile picture, by the names of three objects uploaded before. The one before is deleted."""
    actions.change_picture(caller, body)
    return accounts.me(caller)


@endpoint("DELETE /v1/me/picture")
def remove_profile_picture(caller: Caller) -> Me:
    """Show no profile picture. The one there was is deleted."""
    actions.remove_picture(caller)
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
