"""Profiles, who follows whom, blocks and mutes."""

from shared.accounts import reads as accounts
from shared.accounts.model import Me, ProfileEdit
from shared.kernel.endpoint import Caller, Encoded, Username, endpoint
from shared.kernel.pages import Page, PageQuery
from shared.profiles import actions, lists, reads
from shared.profiles.model import ListedUser, NewPicture, Profile


@endpoint("GET /v1/me")
def get_me(caller: Caller) -> Me:
    """Your own profile, with what waits to be read."""
    return accounts.me(caller)


@endpoint("PATCH /v1/me")
def edit_profile(caller: Caller, body: ProfileEdit) -> Me:
    """Change your profile: what is absent stays as it is; null clears the bio, the birthday or the links.

    A name has 1 to 50 characters, a bio up to 150, a link up to 200; there can be 5 links, http or https. Of the
    settings, `presence` is changed here: who hides when they are here doesn't see it of others either. Those
    who watch just then are told `offline`, with no `last_seen`, and how it is when it shows again.
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
    """Stop following a user. Their posts leave your feed.

    Where the user is hidden from you by now, this is done all the same, and 404 answered as for `get_profile`.
    """
    return actions.unfollow(caller, username)


@endpoint("PUT /v1/users/{username}/block")
def block(caller: Caller, username: Username) -> Profile:
    """Block a user: both follows end, and each is hidden from the other everywhere. 422 for yourself.

    Their profile is answered this once. If they have blocked you, they are blocked all the same, and 404 is answered as
    for everything of theirs: your block stands when theirs ends, and is listed from then on.
    """
    return actions.block(caller, username)


@endpoint("DELETE /v1/users/{username}/block")
def unblock(caller: Caller, username: Username) -> Profile:
    """Block a user no more. The follows that the block ended stay ended.

    Where the user is hidden from you even so, this is done all the same, and 404 answered as for `get_profile`.
    """
    return actions.unblock(caller, username)


@endpoint("PUT /v1/users/{username}/mute")
def mute(caller: Caller, username: Username) -> Profile:
    """Keep a user out of your feed and notifications; they don't learn of it. 422 for yourself."""
    return actions.mute(caller, username)


@endpoint("DELETE /v1/users/{username}/mute")
def unmute(caller: Caller, username: Username) -> Profile:
    """Mute a user no more: their posts are in your feed again, those made meanwhile too.

    Where the user is hidden from you by now, this is done all the same, and 404 answered as for `get_profile`.
    """
    return actions.unmute(caller, username)


@endpoint("GET /v1/users/{username}/followers", answers=Page[ListedUser])
async def list_followers(caller: Caller, username: Username, query: PageQuery) -> Encoded:
    """A user's followers, the newest first. Whoever is not signed in sees how many there are, on the profile."""
    return await lists.of_user(caller, username, lists.FOLLOWERS, query)


@endpoint("GET /v1/users/{username}/following", answers=Page[ListedUser])
async def list_following(caller: Caller, username: Username, query: PageQuery) -> Encoded:
    """Whom a user follows, the newest first. Whoever is not signed in sees how many there are, on the profile."""
    return await lists.of_user(caller, username, lists.FOLLOWING, query)


@endpoint("GET /v1/me/blocked", answers=Page[ListedUser])
async def list_blocked(caller: Caller, query: PageQuery) -> Encoded:
    """Whom you have blocked, the newest first."""
    return await lists.own(caller, lists.BLOCKED, query)


@endpoint("GET /v1/me/muted", answers=Page[ListedUser])
async def list_muted(caller: Caller, query: PageQuery) -> Encoded:
    """Whom you have muted, the newest first. Those whom you have blocked as well are not in it."""
    return await lists.own(caller, lists.MUTED, query)
