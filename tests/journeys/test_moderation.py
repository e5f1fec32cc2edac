"""From a report to what comes of it, and what each of those concerned sees."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from infra.local.stack import Stack
from shared.feed import actions as feeds
from shared.feed.model import FeedChunk
from shared.kernel import ids
from shared.moderation import actions
from shared.profiles import reads as profiles
from tests.client import PASSWORD, Format, Mailbox, Person, Visitor, sign_in, wait_until
from tests.moderation.accounts import found, id_of, logged, promoted, reported

Problem = Callable[[httpx.Response, int, str], dict[str, Any]]
pytestmark = pytest.mark.parametrize("format", ["json", "msgpack"])


def suspensions(person: Person) -> list[dict[str, Any]]:
    """The mails that told somebody of a suspension."""
    return [mail for mail in Mailbox(person.stack.console, person.email).mails() if "suspended" in mail["subject"]]


def test_from_a_report_to_a_suspension_and_back(
    stack: Stack, person: Callable[[], Person], problem: Problem, visitor: Visitor, format: Format
) -> None:
    offender, reporter, moderator, fan = (person().speaking(format) for _ in range(4))
    fan.follow(offender.username)
    offender.follow(fan.username)
    pair = (id_of(fan), id_of(offender))
    post = offender.post_photo(f"Buy my coins, @{fan.username}")
    wait_until(lambda: fan.get("/v1/feed")["items"])
    wait_until(lambda: len(fan.get("/v1/notifications")["items"]) == 2)

    # Filed: whoever filed it sees their own words, and nobody else anything.
    report = reported(reporter, "post", post["id"], "spam", detail="Coins, again.")
    assert report == {
        "id": report["id"],
        "subject": {"type": "post", "id": post["id"]},
        "reason": "spam",
        "detail": "Coins, again.",
        "state": "open",
        "created_at": ids.made_at(ids.decode(report["id"])),
    }
    for other in (offender, reporter, moderator):
        problem(other.ask("GET", "/v1/reports"), 403, "not_moderator")
        answer = other.ask("POST", f"/v1/reports/{report['id']}/resolution", {"action": "dismiss"})
        problem(answer, 403, "not_moderator")
    problem(visitor.ask("GET", "/v1/reports"), 401, "not_signed_in")

    # Seen by a moderator, as soon as they are one, with the session that they have.
    promoted(moderator)
    case = report | {"reporter": reporter.username, "owner": offender.username, "resolution": None}
    assert found(moderator, report) == [case]
    assert found(moderator, report, "resolved") == []

    # Suspended: gone everywhere at once, and out.
    with offender.live() as live:
        body = {"action": "suspend", "note": "The third time."}
        resolved = moderator.post(f"/v1/reports/{report['id']}/resolution", body)
        assert live.close_code() == 4401
    resolution = {"action": "suspend", "note": "The third time.", "by": moderator.username}
    assert resolved == case | {"state": "resolved", "resolution": resolution | {"at": resolved["resolution"]["at"]}}
    assert found(moderator, report) == []
    assert found(moderator, report, "resolved") == [resolved]
    for viewer in (fan, reporter, moderator, visitor):
        problem(viewer.ask("GET", f"/v1/users/{offender.username}"), 404, "user_not_found")
        problem(viewer.ask("GET", f"/v1/users/{offender.username}/posts"), 404, "user_not_found")
        problem(viewer.ask("GET", f"/v1/posts/{post['id']}"), 404, "post_not_found")
    for method in ("PATCH", "DELETE"):
        body = {"description": "Mine?"} if method == "PATCH" else None
        problem(fan.ask(method, f"/v1/posts/{post['id']}", body), 404, "post_not_found")
    problem(fan.ask("PUT", f"/v1/users/{offender.username}/follow"), 404, "user_not_found")
    # The follows are those that they come back to, in the graph as well.
    assert [state.following for state in profiles.follows_among([pair, (pair[1], pair[0])])] == [True, True]
    assert fan.get("/v1/feed")["items"] == []
    # What is told again meanwhile, as events may be, takes nothing out for good.
    feeds.fan_out(FeedChunk(ids.decode(post["id"]), pair[1], after=0, deleted=False))
    assert fan.get("/v1/feed")["items"] == []
    assert fan.get("/v1/notifications")["items"] == []
    assert fan.get("/v1/me")["unread"]["notifications"] == 0
    for path in ("/v1/me", "/v1/feed", f"/v1/posts/{post['id']}"):
        problem(offender.ask("GET", path), 401, "session_ended")
    refused = visitor.ask("POST", "/v1/login", {"login": offender.username, "password": PASSWORD})
    wrong = visitor.ask("POST", "/v1/login", {"login": offender.username, "password": "never was it"})
    assert problem(refused, 401, "bad_credentials")["detail"] == wrong.json()["detail"]
    # Whose password is right is told by mail why, once, and whoever asks for a reset; who guesses has nothing sent.
    visitor.ask("POST", "/v1/login", {"login": offender.email, "password": PASSWORD})
    visitor.post("/v1/password-reset", {"email": offender.email})
    mails = wait_until(lambda: told[:2] if len(told := suspensions(offender)) > 1 else [])
    assert all(offender.username in mail["text"] and "(spam)" in mail["html"] for mail in mails)
    fresh = visitor.ask("POST", "/v1/session/refresh", {"refresh_token": offender.session["refresh_token"]})
    problem(fresh, 401, "invalid_refresh_token")

    assert len(suspensions(offender)) == 2

    # Lifted: all of it is there again.
    assert actions.unsuspend(offender.username)
    back = sign_in(stack, offender.username)
    assert back.get("/v1/me")["counts"] == {"posts": 1, "followers": 1, "following": 1}
    assert fan.get(f"/v1/posts/{post['id']}") == post
    assert fan.get("/v1/feed")["items"] == [post]
    problem(offender.ask("GET", "/v1/me"), 401, "session_ended")

    made, suspended, lifted = logged(id_of(moderator), id_of(offender))
    assert (made.action, made.moderator_id) == ("make_moderator", None)
    assert (suspended.action, suspended.moderator_id) == ("suspend", id_of(moderator))
    assert (suspended.report_id, suspended.note) == (ids.decode(report["id"]), "The third time.")
    assert (lifted.action, lifted.moderator_id) == ("unsuspend", None)


def test_a_post_is_removed_and_its_author_stays(
    alice: Person, bob: Person, person: Callable[[], Person], problem: Problem, format: Format
) -> None:
    author, reporter = alice.speaking(format), bob.speaking(format)
    moderator = promoted(person().speaking(format))
    reporter.follow(author.username)
    post = author.post_photo(f"Not this, @{reporter.username}")
    wait_until(lambda: reporter.get("/v1/notifications")["items"])
    with reporter.live() as live:
        report = reported(reporter, "post", post["id"], "nudity")
        moderator.post(f"/v1/reports/{report['id']}/resolution", {"action": "remove"})
        for viewer in (author, reporter, moderator):
            problem(viewer.ask("GET", f"/v1/posts/{post['id']}"), 404, "post_not_found")
        assert live.event("feed.post_deleted")["data"] == {"id": post["id"]}
        live.event("notification.revoked")
    assert author.get("/v1/me")["counts"]["posts"] == 0
    assert author.get("/v1/feed")["items"] == reporter.get("/v1/feed")["items"] == []
    wait_until(lambda: author.http.get(post["media"][0]["url"]).status_code == 404)
    (removed,) = logged(ids.decode(post["id"]))
    assert (removed.action, removed.subject_type, removed.moderator_id) == ("remove", "post", id_of(moderator))

    # Another report of what is gone can still be resolved; a new one can't be filed.
    problem(
        reporter.ask("POST", "/v1/reports", {"subject": {"type": "post", "id": post["id"]}, "reason": "spam"}),
        404,
        "subject_not_found",
    )


def test_a_dismissed_report_changes_nothing(
    alice: Person, bob: Person, person: Callable[[], Person], format: Format
) -> None:
    reporter, moderator = bob.speaking(format), promoted(person().speaking(format))
    report = reported(reporter, "user", alice.username.upper(), "impersonation")
    assert report["subject"] == {"type": "user", "id": alice.username}
    profile = reporter.get(f"/v1/users/{alice.username}")
    resolved = moderator.post(f"/v1/reports/{report['id']}/resolution", {"action": "dismiss"})
    assert (resolved["state"], resolved["resolution"]["note"]) == ("resolved", None)
    assert reporter.get(f"/v1/users/{alice.username}") == profile
    assert alice.get("/v1/me")["user"]["username"] == alice.username
    # What comes after that is another report.
    assert reported(reporter, "user", alice.username)["id"] != report["id"]
