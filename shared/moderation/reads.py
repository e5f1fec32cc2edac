"""Reports as who filed them and moderators see them. Of Postgres: few read them, and none may be missed."""

from typing import Any, cast

from shared.kernel import db, ids, running
from shared.kernel.endpoint import Caller
from shared.kernel.pages import Page, cursor
from shared.moderation import store
from shared.moderation.access import check_moderator
from shared.moderation.model import Reason, Report, ReportCase, ReportedSubject, ReportQuery, Resolution


async def page(caller: Caller, query: ReportQuery) -> Page[ReportCase]:
    """A page of the open or the resolved reports, newest first, for a moderator. Raises Forbidden."""
    return await running.on_loop(_page, caller, query)


def _page(caller: Caller, query: ReportQuery) -> Page[ReportCase]:
    kind = "u" if query.state == "open" else "v"
    before = query.before(kind)
    statement = store.OPEN if query.state == "open" else store.RESOLVED
    with db.connection() as conn:
        check_moderator(conn, caller)
        rows = statement.all(
            conn,
            moderator_id=caller.user_id,
            before=ids.MAX if before is None else before,
            limit=query.limit + 1,
        )
    shown = rows[: query.limit]
    return Page(list(map(case_of, shown)), cursor(kind, shown[-1].id) if len(rows) > len(shown) else None)


def why_suspended(user_id: int) -> Reason:
    """For what an account was suspended, by the report that led to it."""
    with db.connection() as conn:
        row = store.WHY_SUSPENDED.maybe(conn, user_id=user_id)
    return "other" if row is None else row.reason


def report_of(row: store.ReportRow) -> Report:
    """A report for who filed it."""
    return Report(**_common(row))


def case_of(row: store.ReportRow) -> ReportCase:
    """A report for moderators."""
    resolution = None
    if row.action is not None:
        resolution = Resolution(cast("Any", row.action), row.note, row.resolver or "", row.resolved_at or 0)
    return ReportCase(**_common(row), reporter=row.reporter, owner=row.owner, resolution=resolution)


def _common(row: store.ReportRow) -> dict[str, Any]:
    kind = cast("Any", row.subject_type)
    return {
        "id": ids.encode(row.id),
        "subject": ReportedSubject(kind, row.owner if kind == "user" else ids.encode(row.subject_id)),
        "reason": row.reason,
        "detail": row.detail,
        "state": "open" if row.action is None else "resolved",
        "created_at": row.created_at,
    }
