"""The SQL of accounts."""

from datetime import date

import msgspec

from shared.kernel import db


class ProofRow(msgspec.Struct, frozen=True):
    """An address being proven with a mailed code. `open` is false where no code is right."""

    id: int
    email: str
    open: bool
    mailed: bool
    key_id: str
    wrong_codes: int


class AccountRow(msgspec.Struct, frozen=True):
    """Who wants to sign in."""

    id: int
    password_hash: str
    state: str


class LockedRow(msgspec.Struct, frozen=True):
    """That a lock is held."""

    held: str | None


class EarlierRow(msgspec.Struct, frozen=True):
    """How often codes were asked for, of late and in a day."""

    recent: int
    today: int


class OwnerRow(msgspec.Struct, frozen=True):
    """Whose password is asked for again, or is to be changed."""

    id: int
    username: str
    email: str
    password_hash: str


class DeviceRow(msgspec.Struct, frozen=True):
    """A session that lives."""

    id: int
    created_at: int
    last_used_at: int
    user_agent: str


class OwnRow(msgspec.Struct, frozen=True):
    """What only its owner sees of an account."""

    email: str
    birthday: date | None
    created_at: int
    shows_presence: bool


class SessionRow(msgspec.Struct, frozen=True):
    """A session, for its refresh. `current` is false when the token was an earlier one of it."""

    id: int
    user_id: int
    current: bool


class TryRow(msgspec.Struct, frozen=True):
    """That a try was counted for one subject."""

    subject: str


class WaitRow(msgspec.Struct, frozen=True):
    """Until when to wait."""

    until: int


class FoundRow(msgspec.Struct, frozen=True):
    """That something is there."""

    id: int


EMAIL_TAKEN = db.Statement("SELECT id FROM users WHERE lower(email) = :email", FoundRow)
EMAIL_ACTIVE = db.Statement("SELECT id FROM users WHERE lower(email) = :email AND state = 'active'", FoundRow)

_PROOF = "id, email, open, mailed, key_id, wrong_codes"
# Those of one address come one after another, so that many at once are counted too.
LOCK_PROOFS = db.Statement("SELECT CAST(pg_advisory_xact_lock(hashtextextended(:email, 0)) AS text)", LockedRow)
# Those for the other purpose are not counted: a flood of signups must not keep the owner from a reset.
EARLIER_PROOFS = db.Statement(
    """SELECT count(*) FILTER (WHERE created_at > :recent), count(*)
         FROM (SELECT created_at FROM signups WHERE email = :email AND purpose = :purpose AND created_at > :since
                ORDER BY created_at DESC LIMIT :most) e""",
    EarlierRow,
)
BEGIN_PROOF = db.Statement(
    """INSERT INTO signups (id, purpose, token_digest, email, open, key_id, mailed, created_at, expires_at)
       VALUES (:id, :purpose, :digest, :email, :open, :key_id, :mailed, :now, :expires)"""
)
# Counts an attempt before it is judged, so that many at once get no more tries than one after another.
TRY_CODE = db.Statement(
    f"""UPDATE signups SET wrong_codes = wrong_codes + 1
        WHERE token_digest = :digest AND purpose = :purpose AND NOT verified AND expires_at > :now
          AND wrong_codes < :most
        RETURNING {_PROOF}""",
    ProofRow,
)
VERIFY = db.Statement(
    """UPDATE signups SET verified = true, token_digest = :fresh
        WHERE id = :id AND token_digest = :digest AND NOT verified RETURNING id""",
    FoundRow,
)
VERIFIED = db.Statement(
    f"""SELECT {_PROOF} FROM signups
        WHERE token_digest = :digest AND purpose = :purpose AND verified AND expires_at > :now""",
    ProofRow,
)
TAKE_VERIFIED = db.Statement(
    f"""DELETE FROM signups WHERE token_digest = :digest AND purpose = :purpose AND verified AND expires_at > :now
        RETURNING {_PROOF}""",
    ProofRow,
)
PROOF = db.Statement(f"SELECT {_PROOF} FROM signups WHERE id = :id", ProofRow)
END_PROOFS = db.Statement("DELETE FROM signups WHERE email = :email AND purpose = :purpose")

OWN = db.Statement("SELECT email, birthday, created_at, shows_presence FROM users WHERE id = :id", OwnRow)
INSERT_USER = db.Statement(
    """INSERT INTO users (id, username, email, name, bio, birthday, password_hash, created_at)
       VALUES (:id, :username, :email, :name, :bio, CAST(:birthday AS date), :password_hash, :now)"""
)
BY_LOGIN = db.Statement(
    "SELECT id, password_hash, state FROM users WHERE username = :login OR lower(email) = :login", AccountRow
)
# Locks the account while a session is opened, so that what ends all its sessions waits, and then ends this one too.
STILL = db.Statement(
    "SELECT id FROM users WHERE id = :id AND password_hash = :password_hash AND state = 'active' FOR NO KEY UPDATE",
    FoundRow,
)
_OWNER = "id, username, email, password_hash"
OWNER = db.Statement(f"SELECT {_OWNER} FROM users WHERE id = :id AND state = 'active'", OwnerRow)
OWNER_BY_EMAIL = db.Statement(f"SELECT {_OWNER} FROM users WHERE lower(email) = :email AND state = 'active'", OwnerRow)
LOCK_OWNER_BY_EMAIL = db.Statement(
    f"SELECT {_OWNER} FROM users WHERE lower(email) = :email AND state = 'active' FOR NO KEY UPDATE", OwnerRow
)
MAIL_TO = db.Statement(f"SELECT {_OWNER} FROM users WHERE id = :id AND state <> 'deleted'", OwnerRow)
SUSPENDED = db.Statement(f"SELECT {_OWNER} FROM users WHERE id = :id AND state = 'suspended'", OwnerRow)
SUSPENDED_BY_EMAIL = db.Statement(
    f"SELECT {_OWNER} FROM users WHERE lower(email) = :email AND state = 'suspended'", OwnerRow
)
CHANGE_PASSWORD = db.Statement(
    """UPDATE users SET password_hash = :fresh WHERE id = :id AND password_hash = :old AND state = 'active'
       RETURNING id""",
    FoundRow,
)
SET_PASSWORD_HASH = db.Statement("UPDATE users SET password_hash = :fresh WHERE id = :id AND password_hash = :old")

INSERT_SESSION = db.Statement(
    """INSERT INTO sessions (id, user_id, refresh_digest, user_agent, created_at, last_used_at, refresh_expires_at)
       VALUES (:id, :user_id, :digest, :user_agent, :now, :now, :expires)"""
)
FIND_SESSION = db.Statement(
    """SELECT s.id, s.user_id, s.refresh_digest = :digest FROM sessions s JOIN users u ON u.id = s.user_id
        WHERE s.id = :id AND (s.refresh_digest = :digest OR CAST(:digest AS bytea) = ANY (s.previous_digests))
          AND s.ended_at IS NULL AND s.refresh_expires_at > :now AND u.state = 'active'
          FOR UPDATE OF s""",
    SessionRow,
)
# Of the used tokens the last few are kept: what comes back later than that is unknown, and refused all the same.
ROTATE = db.Statement(
    """UPDATE sessions SET refresh_digest = :fresh,
              previous_digests = array_prepend(
                refresh_digest, trim_array(previous_digests, greatest(0, cardinality(previous_digests) - 19))),
              last_used_at = :now, refresh_expires_at = :expires, user_agent = :user_agent WHERE id = :id"""
)
END_SESSION = db.Statement(
    "UPDATE sessions SET ended_at = :now WHERE id = :id AND user_id = :user_id AND ended_at IS NULL RETURNING id",
    FoundRow,
)
DEVICES = db.Statement(
    """SELECT id, created_at, last_used_at, user_agent FROM sessions
        WHERE user_id = :user_id AND id < :before AND ended_at IS NULL AND refresh_expires_at > :now
        ORDER BY id DESC LIMIT :limit""",
    DeviceRow,
)
END_SESSIONS = db.Statement(
    """UPDATE sessions SET ended_at = :now
        WHERE user_id = :user_id AND ended_at IS NULL AND id IS DISTINCT FROM CAST(:but AS bigint) RETURNING id""",
    FoundRow,
)

# After its free tries a subject waits a second, and with each failure more twice as long, up to the longest.
_OVER = "f.failures - (CAST(:free AS integer[]))[array_position(CAST(:subjects AS text[]), f.subject)]"
# A free try waits for nothing, also where another was counted at a later instant than the one it was asked at.
_WAITS_UNTIL = f"CASE WHEN {_OVER} < 0 THEN 0 ELSE f.last_at + least(:longest, 1000 << least({_OVER}, 20)) END"
# Counts a try as a failure before it is judged, so that many at once get no more tries than one after another. No row
# for a subject that has to wait. In order, so that two never wait for each other.
COUNT_TRY = db.Statement(
    f"""INSERT INTO login_failures AS f (subject, failures, last_at)
        SELECT subject, 1, :now FROM unnest(CAST(:subjects AS text[])) AS s (subject) ORDER BY subject
        ON CONFLICT (subject) DO UPDATE SET last_at = greatest(f.last_at, excluded.last_at),
          failures = CASE WHEN f.last_at < :forgotten THEN 1 ELSE f.failures + 1 END
        WHERE f.last_at < :forgotten OR {_WAITS_UNTIL} <= :now
        RETURNING subject""",
    TryRow,
)
WAITS_UNTIL = db.Statement(
    f"""SELECT coalesce(max({_WAITS_UNTIL}), 0) FROM login_failures AS f
         WHERE subject = ANY(CAST(:subjects AS text[])) AND last_at >= :forgotten""",
    WaitRow,
)
CLEAR_FAILURES = db.Statement(
    """DELETE FROM login_failures WHERE subject IN (
         SELECT subject FROM login_failures WHERE subject = ANY(CAST(:subjects AS text[]))
          ORDER BY subject FOR UPDATE)"""
)
# A success takes back its own try and the wait that came of it, and nothing of what failed before.
TAKE_BACK_TRY = db.Statement(
    """UPDATE login_failures SET failures = greatest(failures - 1, 0), last_at = least(last_at, :waited)
        WHERE subject = :subject"""
)

# What is locked is in use, or another's to delete.
DELETE_SIGNUPS = db.Statement(
    """WITH expired AS MATERIALIZED (
         SELECT id FROM signups WHERE expires_at < :before ORDER BY expires_at LIMIT :limit FOR UPDATE SKIP LOCKED)
       DELETE FROM signups USING expired WHERE signups.id = expired.id"""
)
DELETE_FAILURES = db.Statement(
    """WITH expired AS MATERIALIZED (
         SELECT subject FROM login_failures WHERE last_at < :before
          ORDER BY last_at LIMIT :limit FOR UPDATE SKIP LOCKED)
       DELETE FROM login_failures USING expired WHERE login_failures.subject = expired.subject"""
)
DELETE_SESSIONS = db.Statement(
    """WITH expired AS MATERIALIZED (
         SELECT id FROM sessions WHERE coalesce(ended_at, refresh_expires_at) < :before
          ORDER BY coalesce(ended_at, refresh_expires_at) LIMIT :limit FOR UPDATE SKIP LOCKED)
       DELETE FROM sessions USING expired WHERE sessions.id = expired.id"""
)
DELETE_EFFECTS = db.Statement(
    """WITH expired AS MATERIALIZED (
         SELECT effect FROM effects_done WHERE done_at < :before ORDER BY done_at LIMIT :limit FOR UPDATE SKIP LOCKED)
       DELETE FROM effects_done USING expired WHERE effects_done.effect = expired.effect"""
)
