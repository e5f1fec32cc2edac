"""The SQL of moderation."""

import msgspec

from shared.kernel import db
from shared.moderation.model import Reason


class ReportRow(msgspec.Struct, frozen=True):
    """A report, with the usernames of all concerned. `action` and what comes after it are null while it is open."""

    id: int
    subject_type: str
    subject_id: int
    owner_id: int
    reason: str
    detail: str | None
    created_at: int
    action: str | None
    note: str | None
    resolved_at: int | None
    reporter: str
    owner: str
    resolver: str | None


class IdRow(msgspec.Struct, frozen=True):
    """The id of a user."""

    id: int


class TurnedRow(IdRow, frozen=True):
    """Somebody who was suspended, or that no more, and the version of them that is."""

    version: int


class ReasonRow(msgspec.Struct, frozen=True):
    """For what something was reported."""

    reason: Reason


class AccountRow(msgspec.Struct, frozen=True):
    """An account as whoever runs the servers looks at it."""

    id: int
    state: str
    is_moderator: bool


MODERATOR = db.Statement("SELECT id FROM users WHERE id = :id AND is_moderator AND state = 'active'", IdRow)

_SELECT = """SELECT r.id, r.subject_type, r.subject_id, r.owner_id, r.reason, r.detail, r.created_at, r.action, r.note,
              r.resolved_at, reporter.username, owner.username, resolver.username
         FROM {reports} r
         JOIN users reporter ON reporter.id = r.reporter_id
         JOIN users owner ON owner.id = r.owner_id
         LEFT JOIN users resolver ON resolver.id = r.resolved_by"""
# One open report by a user of a subject: the second is the first. The update changes nothing, and gives the row.
FILE = db.Statement(
    f"""WITH filed AS (
         INSERT INTO reports AS r (id, reporter_id, subject_type, subject_id, owner_id, reason, detail, created_at)
         VALUES (:id, :reporter_id, :subject_type, :subject_id, :owner_id, :reason, :detail, :now)
         ON CONFLICT (reporter_id, subject_type, subject_id) WHERE action IS NULL
         DO UPDATE SET reason = r.reason RETURNING *
       )
       {_SELECT.format(reports="filed")}""",
    ReportRow,
)
# Reports about oneself are others' to see: they name who filed them.
_PAGE = f"""{_SELECT.format(reports="reports")}
        WHERE r.action IS {{state}} AND r.id < :before AND r.owner_id <> :moderator_id
        ORDER BY r.id DESC LIMIT :limit"""
OPEN = db.Statement(_PAGE.format(state="NULL"), ReportRow)
RESOLVED = db.Statement(_PAGE.format(state="NOT NULL"), ReportRow)
BY_ID = db.Statement(f"{_SELECT.format(reports='reports')} WHERE r.id = :id AND r.owner_id <> :moderator_id", ReportRow)
# A row only for who resolves it: of two at once the second waits, and finds it resolved.
RESOLVE = db.Statement(
    f"""WITH resolved AS (
         UPDATE reports SET action = :action, note = :note, resolved_by = :moderator_id, resolved_at = :now
          WHERE id = :id AND action IS NULL AND owner_id <> :moderator_id RETURNING *
       )
       {_SELECT.format(reports="resolved")}""",
    ReportRow,
)

ACCOUNT = db.Statement(
    "SELECT id, state, is_moderator FROM users WHERE username = :username AND state <> 'deleted' FOR UPDATE",
    AccountRow,
)
SET_MODERATOR = db.Statement("UPDATE users SET is_moderator = :moderator WHERE id = :id")
SUSPEND = db.Statement(
    """UPDATE users SET state = 'suspended', version = version + 1 WHERE id = :id AND state = 'active'
       RETURNING id, version""",
    TurnedRow,
)
WHY_SUSPENDED = db.Statement(
    """SELECT r.reason FROM moderation_log l JOIN reports r ON r.id = l.report_id
        WHERE l.subject_id = :user_id AND l.action = 'suspend' ORDER BY l.id DESC LIMIT 1""",
    ReasonRow,
)
UNSUSPEND = db.Statement(
    "UPDATE users SET state = 'active', version = version + 1 WHERE id = :id RETURNING id, version", TurnedRow
)
LOG = db.Statement(
    """INSERT INTO moderation_log (id, moderator_id, action, subject_type, subject_id, report_id, note, created_at)
       VALUES (:id, :moderator_id, :action, :subject_type, :subject_id, :report_id, :note, :now)"""
)
