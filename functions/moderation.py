"""Reports, and what moderators do about them."""

from shared.kernel.endpoint import Caller, ReportId, endpoint
from shared.kernel.pages import Page
from shared.moderation import actions, reads
from shared.moderation.model import NewReport, NewResolution, Report, ReportCase, ReportQuery


@endpoint("POST /v1/reports", status=201)
def report(caller: Caller, body: NewReport) -> Report:
    """Report a user (by username), a post or a comment to the moderators. 404 for what you can't see, 422 for your own.

    What you have reported and nobody has looked at yet isn't reported twice: the answer is your first report.
    """
    return actions.report(caller, body)


@endpoint("GET /v1/reports", forbids=True)
async def list_reports(caller: Caller, query: ReportQuery) -> Page[ReportCase]:
    """The reports, newest first, for moderators; 403 `not_moderator` for others. Those about yourself are not shown."""
    return await reads.page(caller, query)


@endpoint("POST /v1/reports/{report_id}/resolution")
def resolve_report(caller: Caller, report_id: ReportId, body: NewResolution) -> ReportCase:
    """Resolve a report, for moderators: 409 `already_resolved` if another was faster, 404 for one about yourself.

    `remove` deletes the post or comment; `suspend` hides whose it is everywhere at once and ends their sessions, with
    nothing deleted; `dismiss` does nothing. What is gone already stays so. Each is logged with the note.
    """
    return actions.resolve(caller, report_id, body)
