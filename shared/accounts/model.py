"""Accounts: bodies, answers, events, and the rules of usernames, passwords and the rest."""

import unicodedata
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Annotated, ClassVar, Final

import msgspec
import regex

from shared.kernel import clock
from shared.kernel.codec import Rules
from shared.kernel.events import Event
from shared.kernel.problems import FieldError
from shared.notifications.model import NotificationSettings
from shared.profiles.model import ProfileCounts, UserCard

MIN_AGE_YEARS: Final = 13
PASSWORD_LENGTH: Final = (8, 256)
DAY_MS: Final = 24 * 3600 * 1000
PROOF_MS: Final = 15 * 60 * 1000
WRONG_CODES: Final = 5
# To one address within the life of a code, and within a day. Of more requests the answers are the same; nothing is
# mailed, and no code is right: with five tries each, a hundred guesses a day (NIST SP 800-63B 5.2.2).
PROOF_MAILS: Final = 5
PROOF_MAILS_A_DAY: Final = 20
REFRESH_MS: Final = 60 * 24 * 3600 * 1000

# Control characters, line ends, and those that turn the direction of what stands around them (Trojan Source).
_UNSEEN: Final = regex.compile(r"[\p{Cc}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]")
# Something to see: a letter, number, sign or emoji, and none of the letters that are blank.
_VISIBLE: Final = regex.compile(r"[[\p{L}\p{N}\p{P}\p{S}]--[\u115f\u1160\u3164\uffa0\u2800]]", regex.V1)
_USERNAME: Final = regex.compile(r"[a-z0-9_.]{3,30}")
# Practical, not RFC 5322: one @, a dotted domain, no spaces. The code that is mailed proves the rest.
_EMAIL: Final = regex.compile(
    r"[^\s@<>\"(),:;\\\[\]]{1,64}@(?:[^\s@<>\"(),:;\\\[\].]{1,63}\.)+[^\s@<>\"(),:;\\\[\].]{2,63}"
)
# What any browser opens as a web page: never `javascript:`, nor a name and password before the host (RFC 3986, 3.2.1).
_LINK: Final = regex.compile(
    r"https?://(?:[\p{L}\p{N}](?:[\p{L}\p{N}-]*[\p{L}\p{N}])?\.)+[\p{L}]{2,63}(?::\d{1,5})?(?:[/?#]\S*)?"
)


@cache
def _words(name: str) -> frozenset[str]:
    return frozenset((Path(__file__).parent / name).read_text("utf-8").split())


def normalise_email(text: str) -> str:
    """The form in which addresses are kept and compared."""
    return unicodedata.normalize("NFC", text.strip()).lower()


def normalise_password(text: str) -> str:
    """NFC, so that one password typed on two keyboards is the same bytes (NIST SP 800-63B 5.1.1.2)."""
    return unicodedata.normalize("NFC", text)


def email_faults(email: str) -> list[FieldError]:
    """What is wrong with an address."""
    if _EMAIL.fullmatch(normalise_email(email)) and ".." not in email:
        return []
    return [FieldError("email", "invalid_email", "This is not an e-mail address.")]


def username_faults(username: str) -> list[FieldError]:
    """What is wrong with a username."""
    folded = username.lower()
    if not _USERNAME.fullmatch(folded) or folded.endswith("."):
        rule = "3 to 30 of a-z, 0-9, _ and ., not ending in a dot."
        return [FieldError("username", "invalid_username", rule)]
    if folded in _words("reserved_usernames.txt"):
        return [FieldError("username", "reserved", "This username is reserved.")]
    return []


def password_faults(password: str, field: str = "password") -> list[FieldError]:
    """What is wrong with a password."""
    password = normalise_password(password)
    least, most = PASSWORD_LENGTH
    if not least <= len(password) <= most:
        return [FieldError(field, "wrong_length", f"{least} to {most} characters.")]
    folded = _folded(password)
    if folded in _words("common_passwords.txt") or len(set(folded)) == 1:
        return [FieldError(field, "too_common", "This is one of the commonest passwords.")]
    return []


def new_password_faults(password: str) -> list[FieldError]:
    """What is wrong with a password that is to take another's place."""
    return password_faults(password, "new_password")


def obvious_faults(password: str, *known: str, field: str = "password") -> list[FieldError]:
    """What is wrong with a password beside what anyone would try first: the username, the address."""
    if _folded(password) in {part.casefold() for word in known for part in (word, word.partition("@")[0])}:
        return [FieldError(field, "too_obvious", "The password can't be the username or the address.")]
    return []


def _folded(password: str) -> str:
    return unicodedata.normalize("NFKC", password).casefold()


def name_faults(name: str) -> list[FieldError]:
    """What is wrong with a display name."""
    if _UNSEEN.search(name):
        return [FieldError("name", "control_character", "A name has no control or direction characters.")]
    if not _VISIBLE.search(name):
        return [FieldError("name", "blank", "The name can't be blank.")]
    return []


def bio_faults(bio: str | None) -> list[FieldError]:
    """What is wrong with a bio; it may have several lines."""
    if _UNSEEN.search((bio or "").replace("\n", "")):
        return [FieldError("bio", "control_character", "A bio has no control or direction characters.")]
    return []


def birthday_faults(birthday: date | None) -> list[FieldError]:
    """What is wrong with a birthday."""
    today = datetime.fromtimestamp(clock.now_ms() / 1000, UTC).date()
    if birthday is None:
        return []
    if birthday.year <= 1900 or birthday > today:
        return [FieldError("birthday", "impossible", "Nobody was born then.")]
    years = today.year - birthday.year - ((today.month, today.day) < (birthday.month, birthday.day))
    if years < MIN_AGE_YEARS:
        return [FieldError("birthday", "too_young", f"You must be at least {MIN_AGE_YEARS} years old.")]
    return []


def link_faults(links: list[str | msgspec.UnsetType] | None) -> list[FieldError]:
    """What is wrong with a profile's links."""
    detail = "An http or https address with a host name, without spaces or sign-in data."
    return [
        FieldError(f"links[{index}]", "invalid_link", detail)
        for index, link in enumerate(links or [])
        if link is not msgspec.UNSET and (not _LINK.fullmatch(link) or _UNSEEN.search(link))
    ]


Secret = Annotated[str, msgspec.Meta(min_length=1, max_length=300)]
SixDigits = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{6}$")]
# As typed: decomposed, a character may be four.
GivenPassword = Annotated[str, msgspec.Meta(min_length=1, max_length=PASSWORD_LENGTH[1] * 4)]
DisplayName = Annotated[str, msgspec.Meta(min_length=1, max_length=50)]
Bio = Annotated[str, msgspec.Meta(max_length=150)]
Links = Annotated[list[Annotated[str, msgspec.Meta(max_length=200)]], msgspec.Meta(max_length=5)]


class SignupRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The address to sign up with."""

    RULES: ClassVar[Rules] = {"email": email_faults}

    email: Annotated[str, msgspec.Meta(max_length=254)]


class SignupStarted(msgspec.Struct, frozen=True):
    """A signup under way: a code was mailed, good until `expires_at`."""

    signup_token: str
    expires_at: int


class SignupCode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The six digits from the mail."""

    signup_token: Secret
    code: SixDigits


class SignupVerified(msgspec.Struct, frozen=True):
    """The token for the last step; the one before is used up."""

    signup_token: str


class NewAccount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The account to be made. `birthday` is YYYY-MM-DD."""

    RULES: ClassVar[Rules] = {
        "username": username_faults,
        "name": name_faults,
        "password": password_faults,
        ("password", "username"): obvious_faults,
        "birthday": birthday_faults,
        "bio": bio_faults,
    }

    signup_token: Secret
    username: str
    name: DisplayName
    password: str
    birthday: date | None = None
    bio: Bio = ""


class Credentials(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An e-mail address or username, and its password."""

    login: Annotated[str, msgspec.Meta(min_length=1, max_length=254)]
    password: GivenPassword


class ResetRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The address of the account whose password is to be reset."""

    RULES: ClassVar[Rules] = {"email": email_faults}

    email: Annotated[str, msgspec.Meta(max_length=254)]


class ResetStarted(msgspec.Struct, frozen=True):
    """A password reset under way: a code was mailed, good until `expires_at`."""

    reset_token: str
    expires_at: int


class ResetCode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The six digits from the mail."""

    reset_token: Secret
    code: SixDigits


class ResetVerified(msgspec.Struct, frozen=True):
    """The token for the last step; the one before is used up."""

    reset_token: str


class ResetPassword(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The password to sign in with from now on."""

    RULES: ClassVar[Rules] = {"new_password": new_password_faults}

    reset_token: Secret
    new_password: str


class ChangedPassword(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The password as it is, and as it is to be."""

    RULES: ClassVar[Rules] = {"new_password": new_password_faults}

    current_password: GivenPassword
    new_password: str


class Confirmation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The password, asked for again before what can't be undone."""

    password: GivenPassword


class RefreshRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The refresh token of the session, as given last."""

    refresh_token: Secret


class Session(msgspec.Struct, frozen=True):
    """A session and its tokens. The access token lives 15 minutes, the refresh token 60 days; it is good once."""

    id: str
    access_token: str
    expires_at: int
    refresh_token: str
    refresh_expires_at: int


class SignedIn(msgspec.Struct, frozen=True):
    """Who signed in, and their session."""

    user: UserCard
    session: Session


class Refreshed(msgspec.Struct, frozen=True):
    """The session with its new tokens."""

    session: Session


class Device(msgspec.Struct, frozen=True):
    """A session as its owner sees it. `last_used_at` is when it last got tokens; `current` is the one that asks."""

    id: str
    created_at: int
    last_used_at: int
    user_agent: str
    current: bool


class Export(msgspec.Struct, frozen=True):
    """An archive that was asked for at `requested_at`: its link comes by mail."""

    requested_at: int


class LiveTicket(msgspec.Struct, frozen=True):
    """A ticket for one live connection, good until `expires_at`."""

    ticket: str
    expires_at: int


class Unread(msgspec.Struct, frozen=True):
    """What waits to be read."""

    notifications: int
    chats: int


class Settings(NotificationSettings, frozen=True):
    """Which types of notifications a user wants, and whether they show when they are here, and see it of others."""

    presence: bool


class Me(msgspec.Struct, frozen=True):
    """One's own profile. `birthday` is YYYY-MM-DD."""

    user: UserCard
    email: str
    bio: str
    birthday: str | None
    links: list[str]
    created_at: int
    counts: ProfileCounts
    unread: Unread
    settings: Settings


class SettingsEdit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether one shows when one is here, and sees it of others."""

    presence: bool | msgspec.UnsetType = msgspec.UNSET


class ProfileEdit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Changes of one's own profile: what is absent stays as it is, null clears. `birthday` is YYYY-MM-DD."""

    RULES: ClassVar[Rules] = {
        "name": name_faults,
        "bio": bio_faults,
        "birthday": birthday_faults,
        "links": link_faults,
    }

    name: DisplayName | msgspec.UnsetType = msgspec.UNSET
    bio: Bio | msgspec.UnsetType | None = msgspec.UNSET
    birthday: date | msgspec.UnsetType | None = msgspec.UNSET
    links: Links | msgspec.UnsetType | None = msgspec.UNSET
    settings: SettingsEdit | msgspec.UnsetType = msgspec.UNSET


class SignupRequested(Event, frozen=True):
    """Someone wants to sign up with `email`. `open` is false where the address has an account already."""

    signup_id: int
    email: str
    open: bool


class SessionEnded(Event, frozen=True):
    """A session has ended: whatever still takes it for alive is to be told."""

    user_id: int
    session_id: int


class PasswordResetRequested(Event, frozen=True):
    """Someone wants to reset the password of the account of `email`. `open` is false where there is none."""

    reset_id: int
    email: str
    open: bool


class SuspendedSignIn(Event, frozen=True):
    """Somebody who knows the password wants to sign in to a suspended account: its owner is to be told why not."""

    sign_in_id: int
    user_id: int


class PasswordChanged(Event, frozen=True):
    """A user's password was changed, with the old one or by a reset. `change_id` is new each time."""

    change_id: int
    user_id: int


class ExportRequested(Event, frozen=True):
    """A user wants an archive of all that is held on them."""

    export_id: int
    user_id: int


class ExportMade(Event, frozen=True):
    """An archive is there: its link is to be mailed."""

    export_id: int


class ExportsExpired(Event, frozen=True):
    """Archives whose links are over: to be deleted from storage."""

    objects: list[str]


class ErasureDue(Event, frozen=True):
    """A deleted account is to be erased; `turn` counts how often the work has been handed on."""

    erasure_id: int
    turn: int


class AccountErased(Event, frozen=True):
    """All of an account is erased: its former owner is to be told."""

    erasure_id: int
