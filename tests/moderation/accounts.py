"""What tests of moderation know of accounts: their ids, and making moderators as whoever runs the servers does."""

from typing import Any

import msgspec

from shared.kernel import db
from shared.moderation import actions
from shared.profiles import reads as profiles
from tests.client import Person


class LogRow(msgspec.Struct, frozen=True):
    """An entry of the log."""

    moderator_id: int | None
    action: str
    subject_type: str
    subject_id: int
    report_id: int | None
    note: str | None


LOG = db.Statement(
    """SELECT moderator_id, action, subject_type, subject_id, report_id, note FROM moderation_log
        WHERE subject_id = ANY(CAST(:subjects AS bigint[])) ORDER BY created_at, id""",
    LogRow,
)


def id_of(person: Person) -> int:
    return profiles.named([person.username])[person.username]


def promoted(person: Person) -> Person:
    """The same person, a moderator now."""
    assert actions.set_moderator(person.username, moderator=True)
    return person


def logged(*subjects: int) -> list[LogRow]:
    """What was done about these, oldest first."""
    with db.connection() as conn:
        return LOG.all(conn, subjects=list(subjects))


def reported(reporter: Person, kind: str, name: str, reason: str = "spam", **more: Any) -> dict[str, Any]:
    """A report, filed."""
    return reporter.post("/v1/reports", {"subject": {"type": kind, "id": name}, "reason": reason} | more)


def found(moderator: Person, report: dict[str, Any], state: str = "open") -> list[dict[str, Any]]:
    """The report as the moderator's list has it, if it does."""
    page = moderator.get("/v1/reports", state=state, limit=100)
    return [one for one in page["items"] if one["id"] == report["id"]]
