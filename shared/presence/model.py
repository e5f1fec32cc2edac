"""Presence: its types."""

from typing import Literal

import msgspec


class Presence(msgspec.Struct, frozen=True):
    """Whether a user is here, and when they last were: null while they are, and where it isn't known."""

    presence: Literal["online", "offline"]
    last_seen: int | None


class PresenceChanged(msgspec.Struct, frozen=True):
    """The data of `presence.changed`: a user came, or has been gone for a while."""

    username: str
    presence: Literal["online", "offline"]
    last_seen: int | None


class Typed(msgspec.Struct, frozen=True, rename={"sender": "from"}):
    """The data of `typing`: a user types to whom is told, or no more."""

    sender: str
    on: bool
