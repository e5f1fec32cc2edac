"""Filing reports, resolving them, and lifting what was done. Each act is logged in its own transaction."""

from collections.abc import Callable
from typing import Final

import msgspec

from shared.comments import actions as comments
from shared.comments import reads as comment_reads
from shared.feed.model import TellersChunk
from shared.kernel import cache, clock, db, events, ids
from shared.kernel.endpoint import Caller, ReportId
from shared.kernel.problems import Conflict, Invalid, NotFound
from shared.moderation import reads, store
from shared.moderation.access import check_moderator
from shared.moderation.model import (
    NewReport,
    NewResolution,
    OperatorAction,
    Report,
    ReportCase,
    ReportedSubject,
    ResolvingAction,
)
from shared.posts import actions as posts
from shared.posts import reads as post_reads
from shared.profiles import reads as profiles
from shared.profiles.model import UserChanged


class _Content(msgspec.Struct, frozen=True):
    """How content of one type is found by who may see it (viewer, id → owner), and removed (id, owner)."""

    owner_seen_by: Callable[[int, int], int | None]
    remove: Callable[[db.Connection, int, int], list[cache.Command]]


_CONTENT: Final = {
    "post": _Content(post_reads.author_seen_by, posts.remove),
    "comment": _Content(comment_reads.author_seen_by, lambda conn, comment_id, _: comments.remove(conn, comment_id)),
}


def report(caller: Caller, new: NewReport) -> Report:
    """File a report, or find the caller's open one of the same subject. Raises NotFound, Invalid for one's own."""
    subject_id, owner_id = _find(caller, new.subject)
    with db.connection() as conn:
        row = store.FILE.one(
            conn,
            id=ids.new_id(),
            reporter_id=caller.user_id,
            subject_type=new.subject.type,
            subject_id=subject_id,
            owner_id=owner_id,
            reason=new.reason,
            detail=new.detail,
            now=clock.now_ms(),
        )
    return reads.report_of(row)


def _find(caller: Caller, subject: ReportedSubject) -> tuple[int, int]:
    """The ids of a subject and of its owner. Raises NotFound for what the caller can't see."""
    if subject.type == "user":
        username = subject.id.lower()
        subject_id = owner_id = profiles.reachable(caller.user_id, [username]).get(username)
    else:
        subject_id, owner_id = _find_content(caller, subject)
    if subject_id is None or owner_id is None:
        raise NotFound("subject_not_found")
    if owner_id == caller.user_id:
        raise Invalid.field("subject.id", "yourself", "You can't report yourself, nor what is yours.")
    return subject_id, owner_id


def _find_content(caller: Caller, subject: ReportedSubject) -> tuple[int | None, int | None]:
    try:
        subject_id = ids.decode(subject.id)
    except ValueError:
        return None, None
    return subject_id, _CONTENT[subject.type].owner_seen_by(caller.user_id, subject_id)


def resolve(caller: Caller, report_id: ReportId, new: NewResolution) -> ReportCase:
    """Resolve a report, for a moderator. Raises Forbidden, NotFound, Conflict if it is resolved already, Invalid."""
    with db.transaction() as conn:
        check_moderator(conn, caller)
        row = store.RESOLVE.maybe(
            conn, id=report_id, moderator_id=caller.user_id, action=new.action, note=new.note, now=clock.now_ms()
        )
        if row is None:
            raise _refusal(conn, caller, report_id)
        commands = _act(conn, row, new.action)
        # Whom it is about where it is the account that is suspended, and else what was reported.
        about = ("user", row.owner_id) if new.action == "suspend" else (row.subject_type, row.subject_id)
        _log(conn, new.action, about, moderator_id=caller.user_id, report_id=report_id, note=new.note)
    fresh, _ = profiles.fresh([row.owner_id])
    events.after_commit(*commands, *fresh)
    return reads.case_of(row)


def _refusal(conn: db.Connection, caller: Caller, report_id: int) -> Exception:
    if store.BY_ID.maybe(conn, id=report_id, moderator_id=caller.user_id) is None:
        return NotFound("report_not_found")
    return Conflict("already_resolved", "This report was resolved already.")


def _act(conn: db.Connection, row: store.ReportRow, action: ResolvingAction) -> list[cache.Command]:
    """What a moderator decided, and what Redis is to hear of it; nothing where it is so already."""
    if action == "suspend":
        return _suspend(conn, row.owner_id)
    if action == "remove":
        content = _CONTENT.get(row.subject_type)
        if content is None:
            raise Invalid.field("action", "nothing_to_remove", "A user can be suspended, and not removed.")
        return content.remove(conn, row.subject_id, row.owner_id)
    return []


def _suspend(conn: db.Connection, user_id: int) -> list[cache.Command]:
    # Here, since it brings what hashes passwords, which to list reports takes none of.
    from shared.accounts import sessions

    # The account first: who signs in meanwhile waits for it, or has a session by the time they are ended.
    suspended = store.SUSPEND.maybe(conn, id=user_id)
    if suspended is None:
        return []
    _tell(conn, suspended)
    return sessions.end_all(conn, user_id)


def _tell(conn: db.Connection, turned: store.TurnedRow) -> None:
    events.emit(conn, UserChanged(turned.id, came_or_went=True), TellersChunk(turned.id, turned.version))


def set_moderator(username: str, *, moderator: bool) -> bool:
    """Make an account a moderator, or no longer one; whether it wasn't so already. Raises NotFound, Conflict.

    For whoever runs the servers, as is `unsuspend`.
    """
    with db.transaction() as conn:
        account = _account(conn, username)
        if moderator and account.state != "active":
            raise Conflict("suspended", f"{username} is suspended.")
        if account.is_moderator == moderator:
            return False
        store.SET_MODERATOR.run(conn, id=account.id, moderator=moderator)
        _log(conn, "make_moderator" if moderator else "unmake_moderator", ("user", account.id))
    return True


def unsuspend(username: str) -> bool:
    """Lift a suspension: all that is the account's is there again; whether there was one. Raises NotFound."""
    with db.transaction() as conn:
        account = _account(conn, username)
        if account.state != "suspended":
            return False
        _tell(conn, store.UNSUSPEND.one(conn, id=account.id))
        _log(conn, "unsuspend", ("user", account.id))
    fresh, _ = profiles.fresh([account.id])
    events.after_commit(*fresh)
    return True


def _account(conn: db.Connection, username: str) -> store.AccountRow:
    account = store.ACCOUNT.maybe(conn, username=username)
    if account is None:
        raise NotFound("user_not_found", f"There is no account {username}.")
    return account


def _log(
    conn: db.Connection,
    action: ResolvingAction | OperatorAction,
    subject: tuple[str, int],
    *,
    moderator_id: int | None = None,
    report_id: int | None = None,
    note: str | None = None,
) -> None:
    store.LOG.run(
        conn,
        id=ids.new_id(),
        moderator_id=moderator_id,
        action=action,
        subject_type=subject[0],
        subject_id=subject[1],
        report_id=report_id,
        note=note,
        now=clock.now_ms(),
    )
