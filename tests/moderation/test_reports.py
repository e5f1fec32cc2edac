"""The rules of reports: what can be reported, who resolves it, once, and what is kept of it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

import httpx
import pytest

from shared.graph import projection
from shared.kernel import db, graph, ids
from shared.moderation import actions
from shared.moderation.model import Reason
from shared.profiles import reads as profiles
from tests.client import PASSWORD, Person, Visitor, standing_still
from tests.moderation.accounts import found, id_of, logged, promoted, reported

Problem = Callable[[httpx.Response, int, str], dict[str, Any]]
BLOCK = db.Statement(
    """INSERT INTO relationships AS r (user_id, other_id, blocked_at) VALUES (:one, :two, 1)
       ON CONFLICT (user_id, other_id) DO UPDATE SET blocked_at = 1, version = r.version + 1"""
)

FOLLOWED = "MATCH (:User {id: $id})-[:FOLLOWS]->(b:User) RETURN b.id AS id"


@pytest.fixture
def moderator(person: Callable[[], Person]) -> Person:
    return promoted(person())


def file(reporter: Person, kind: str, name: str, **more: Any) -> httpx.Response:
    return reporter.ask("POST", "/v1/reports", {"subject": {"type": kind, "id": name}, "reason": "spam"} | more)


def resolve(moderator: Person, report: dict[str, Any], action: str = "dismiss") -> httpx.Response:
    return moderator.ask("POST", f"/v1/reports/{report['id']}/resolution", {"action": action})


def test_every_fault_of_a_report_is_named(alice: Person, bob: Person, problem: Problem) -> None:
    body = {"subject": {"type": "chat", "id": "", "of": 1}, "reason": "boring", "detail": "x" * 1001, "note": 1}
    refused = problem(alice.ask("POST", "/v1/reports", body), 422, "invalid")
    fields = {fault["field"] for fault in refused["errors"]}
    assert fields == {"subject.type", "subject.id", "subject.of", "reason", "detail", "note"}


def test_each_reason_is_taken(alice: Person, bob: Person, person: Callable[[], Person]) -> None:
    posts = [bob.post_photo(reason)["id"] for reason in get_args(Reason)]
    taken = [
        reported(alice, "post", post_id, reason)["reason"]
        for post_id, reason in zip(posts, get_args(Reason), strict=True)
    ]
    assert taken == list(get_args(Reason))


@pytest.mark.parametrize(
    ("kind", "name"),
    [("user", "no_such_user"), ("user", "a"), ("post", "x"), ("post", "0" * 13), ("post", "ü"), ("comment", "0" * 13)],
)
def test_what_is_not_there_cant_be_reported(alice: Person, problem: Problem, kind: str, name: str) -> None:
    problem(file(alice, kind, name), 404, "subject_not_found")


@pytest.mark.parametrize("blocker", [0, 1])
def test_what_a_block_hides_cant_be_reported(alice: Person, bob: Person, problem: Problem, blocker: int) -> None:
    post = bob.post_photo("Hidden")
    two = [id_of(alice), id_of(bob)]
    with db.connection() as conn:
        BLOCK.run(conn, one=two[blocker], two=two[1 - blocker])
    profiles.refresh_relationship(two[blocker], two[1 - blocker])
    problem(file(alice, "post", post["id"]), 404, "subject_not_found")
    problem(file(alice, "user", bob.username), 404, "subject_not_found")


def test_oneself_and_ones_own_cant_be_reported(alice: Person, problem: Problem) -> None:
    post = alice.post_photo("Mine")
    for kind, name in (("user", alice.username), ("post", post["id"])):
        refused = problem(file(alice, kind, name), 422, "invalid")
        assert refused["errors"][0]["code"] == "yourself"


def test_the_same_open_report_is_one_however_many_at_once(alice: Person, bob: Person, moderator: Person) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: file(alice, "user", bob.username), range(8)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    report = answers[0].json()
    # With other words it is still the one that waits.
    assert reported(alice, "user", bob.username, "hate", detail="Worse.") == report
    assert resolve(moderator, report).status_code == 200
    assert reported(alice, "user", bob.username, "hate")["id"] != report["id"]


def test_of_two_who_resolve_at_once_one_wins(
    alice: Person, bob: Person, person: Callable[[], Person], problem: Problem
) -> None:
    moderators = [promoted(person()) for _ in range(4)]
    for action in ("dismiss", "suspend"):
        report = reported(alice, "user", bob.username)
        bob_id = id_of(bob)
        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(lambda one, r=report, a=action: resolve(one, r, a), moderators))
        won = [answer.json() for answer in answers if answer.status_code == 200]
        assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
        for answer in answers:
            if answer.status_code == 409:
                problem(answer, 409, "already_resolved")
        acts = [entry for entry in logged(bob_id) if entry.action == action]
        assert [entry.report_id for entry in acts] == [ids.decode(report["id"])]
        assert won[0]["resolution"]["by"] in {one.username for one in moderators}


def test_many_who_suspend_one_for_different_reports_do_it_once(bob: Person, person: Callable[[], Person]) -> None:
    reporters, moderators = [person() for _ in range(4)], [promoted(person()) for _ in range(4)]
    post = bob.post_photo("Everybody hates this")
    reports = [reported(one, "post", post["id"]) for one in reporters]
    acts = zip(moderators, reports, ("suspend", "remove", "suspend", "remove"), strict=True)
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda act: resolve(*act), acts))
    assert {answer.status_code for answer in answers} == {200}
    assert actions.unsuspend(bob.username)
    assert not actions.unsuspend(bob.username)


def test_a_login_under_way_does_not_outlive_a_suspension(
    alice: Person, bob: Person, moderator: Person, visitor: Visitor
) -> None:
    report = reported(alice, "user", bob.username)
    with ThreadPoolExecutor(9) as threads:
        body = {"login": bob.username, "password": PASSWORD}
        logins = [threads.submit(Visitor(visitor.url).ask, "POST", "/v1/login", body) for _ in range(8)]
        assert resolve(moderator, report, "suspend").status_code == 200
    for answer in (login.result() for login in logins):
        if answer.status_code == 200:
            token = answer.json()["session"]["access_token"]
            assert Visitor(visitor.url, token=token).ask("GET", "/v1/feed").status_code == 401


def test_a_user_cant_be_removed(alice: Person, bob: Person, moderator: Person, problem: Problem) -> None:
    report = reported(alice, "user", bob.username)
    refused = problem(resolve(moderator, report, "remove"), 422, "invalid")
    assert [(fault["field"], fault["code"]) for fault in refused["errors"]] == [("action", "nothing_to_remove")]
    assert found(moderator, report)
    assert logged(id_of(bob)) == []


def test_reports_of_what_is_gone_meanwhile_are_resolved_all_the_same(
    alice: Person, bob: Person, moderator: Person
) -> None:
    post = bob.post_photo("Soon gone")
    report = reported(alice, "post", post["id"])
    bob.delete(f"/v1/posts/{post['id']}")
    assert resolve(moderator, report, "remove").json()["state"] == "resolved"
    assert bob.get("/v1/me")["counts"]["posts"] == 0


def test_nobody_judges_themselves(alice: Person, moderator: Person, problem: Problem) -> None:
    report = reported(alice, "user", moderator.username)
    assert found(moderator, report) == []
    problem(resolve(moderator, report), 404, "report_not_found")
    problem(resolve(moderator, {"id": "0" * 13}), 404, "report_not_found")
    problem(resolve(moderator, {"id": "x"}), 404, "report_not_found")


def test_who_is_a_moderator_no_longer_may_do_nothing_from_then_on(
    alice: Person, bob: Person, moderator: Person, problem: Problem
) -> None:
    report = reported(alice, "user", bob.username)
    assert found(moderator, report)
    assert actions.set_moderator(moderator.username, moderator=False)
    problem(moderator.ask("GET", "/v1/reports"), 403, "not_moderator")
    problem(resolve(moderator, report), 403, "not_moderator")


def test_reports_are_paged_newest_first_while_others_come_and_go(
    bob: Person, person: Callable[[], Person], moderator: Person
) -> None:
    post_ids = [bob.post_photo(f"Number {number}", seed=number)["id"] for number in range(5)]
    reporter = person()
    reports = [reported(reporter, "post", post_id) for post_id in post_ids]
    page = moderator.get("/v1/reports", limit=2)
    assert [one["id"] for one in page["items"]] == [one["id"] for one in reports[:2:-1]]
    resolve(moderator, reports[4])
    newer = reported(reporter, "user", bob.username)
    rest = moderator.get("/v1/reports", limit=3, cursor=page["next_cursor"])
    assert [one["id"] for one in rest["items"]] == [one["id"] for one in reports[2::-1]]
    assert found(moderator, newer)
    assert moderator.get("/v1/reports", state="resolved", limit=1)["items"][0]["id"] == reports[4]["id"]


def test_a_cursor_of_open_reports_is_none_of_resolved_ones(
    alice: Person, bob: Person, person: Callable[[], Person], moderator: Person, problem: Problem
) -> None:
    for other in (bob, person()):
        reported(alice, "user", other.username)
    cursor = moderator.get("/v1/reports", limit=1)["next_cursor"]
    refused = moderator.ask("GET", f"/v1/reports?state=resolved&cursor={cursor}")
    assert problem(refused, 422, "invalid")["errors"][0]["field"] == "cursor"
    refused = moderator.ask("GET", "/v1/reports?state=closed&limit=0")
    assert {fault["field"] for fault in problem(refused, 422, "invalid")["errors"]} == {"state", "limit"}


@pytest.mark.parametrize("statement", ["UPDATE moderation_log SET note = ''", "DELETE FROM moderation_log"])
def test_the_log_can_only_grow(alice: Person, bob: Person, moderator: Person, statement: str) -> None:
    resolve(moderator, reported(alice, "user", bob.username))
    with db.connection() as conn, pytest.raises(db.DatabaseError, match="append-only"):
        db.Statement(statement).run(conn)
    assert logged(id_of(bob))


def test_a_suspension_holds_at_once_with_every_background_function_standing_still(
    alice: Person, bob: Person, moderator: Person, problem: Problem, stack: Any
) -> None:
    alice.follow(bob.username)
    post = bob.post_photo("Still here")
    report = reported(alice, "post", post["id"])
    with standing_still(stack, "background", "relay"):
        assert resolve(moderator, report, "suspend").status_code == 200
        problem(alice.ask("GET", f"/v1/posts/{post['id']}"), 404, "post_not_found")
        problem(bob.ask("GET", "/v1/me"), 401, "session_ended")
        assert actions.unsuspend(bob.username)
        assert alice.get(f"/v1/posts/{post['id']}") == post


def test_the_graph_keeps_whom_the_suspended_follow(alice: Person, bob: Person, moderator: Person) -> None:
    alice.follow(bob.username)
    pairs = [(id_of(alice), id_of(bob))]
    projection.project(pairs=pairs)
    for _ in range(2):
        assert resolve(moderator, reported(alice, "user", bob.username), "suspend").status_code == 200
        projection.project(users=[user_id for pair in pairs for user_id in pair])
        assert graph.read(FOLLOWED, id=pairs[0][0]) == [{"id": pairs[0][1]}]
        assert actions.unsuspend(bob.username)


def test_a_decision_sent_again_under_its_key_is_replayed(alice: Person, bob: Person, moderator: Person) -> None:
    report = reported(alice, "user", bob.username)
    path, body = f"/v1/reports/{report['id']}/resolution", {"action": "suspend"}
    first, again = (moderator.ask("POST", path, body, idempotency_key="decided-once") for _ in range(2))
    assert (first.status_code, again.status_code) == (200, 200)
    assert (again.content, again.headers["idempotent-replayed"]) == (first.content, "true")
    assert alice.ask("GET", f"/v1/users/{bob.username}").status_code == 404
    assert bob.ask("GET", "/v1/me").status_code == 401
