"""Moderation: reports, and what comes of them."""

from typing import Annotated, Literal

import msgspec

from shared.kernel.pages import PageQuery

ReportedType = Literal["user", "post", "comment"]
Reason = Literal["spam", "harassment", "hate", "violence", "nudity", "self_harm", "impersonation", "illegal", "other"]
ResolvingAction = Literal["remove", "suspend", "dismiss"]
ReportState = Literal["open", "resolved"]
# What the log holds beyond those: done by whoever runs the servers, to an account.
OperatorAction = Literal["make_moderator", "unmake_moderator", "unsuspend"]
Words = Annotated[str, msgspec.Meta(max_length=1000)]


class ReportedSubject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is reported: a user by username, a post or comment by its id."""

    type: ReportedType
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=30)]


class NewReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A report to be filed; `detail` says in words what the reason doesn't."""

    subject: ReportedSubject
    reason: Reason
    detail: Words | None = None


class Report(msgspec.Struct, frozen=True):
    """A report as who filed it sees it."""

    id: str
    subject: ReportedSubject
    reason: Reason
    detail: str | None
    state: ReportState
    created_at: int


class Resolution(msgspec.Struct, frozen=True):
    """What a moderator, `by` username, did about a report."""

    action: ResolvingAction
    note: str | None
    by: str
    at: int


class ReportCase(Report, frozen=True):
    """A report as moderators see it. `reporter` and `owner` (whose the subject is) are usernames, of those gone too."""

    reporter: str
    owner: str
    resolution: Resolution | None


class NewResolution(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to do: remove the content, suspend whose it is, or nothing; `note` is for the log."""

    action: ResolvingAction
    note: Words | None = None


class ReportQuery(PageQuery, frozen=True, forbid_unknown_fields=True):
    """Which page of the reports, of the open or the resolved ones."""

    state: ReportState = "open"
