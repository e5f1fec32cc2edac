"""Forgotten and changed passwords."""

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from infra.local.stack import Stack
from shared.accounts import sessions
from shared.kernel import clock, db
from tests.accounts.receipts import There
from tests.client import PASSWORD, Format, Mailbox, Person, Visitor, decoded, sign_in, sign_up, wait_until

Problem = Callable[[httpx.Response, int, str], dict[str, Any]]
NEW = "a different battery staple"
FAILED = db.Statement(
    """INSERT INTO login_failures (subject, failures, last_at) VALUES (:subject, 1000, :now)
       ON CONFLICT (subject) DO UPDATE SET failures = 1000, last_at = :now"""
)
COUNTED = db.Statement("SELECT failures FROM login_failures WHERE subject = :subject", There)
AGE = db.Statement("UPDATE signups SET expires_at = 0 WHERE email = :email")


def begin(visitor: Visitor, email: str) -> str:
    return visitor.post("/v1/password-reset", {"email": email})["reset_token"]


def prove(stack: Stack, visitor: Visitor, email: str) -> str:
    """The token for the last step, proven with the mailed code."""
    box = Mailbox(stack.console, email)
    before = len(box.mails())
    body = {"reset_token": begin(visitor, email), "code": box.code(before)}
    return visitor.post("/v1/password-reset/verify", body)["reset_token"]


def complete(visitor: Visitor, token: str, password: str = NEW) -> httpx.Response:
    return visitor.ask("POST", "/v1/password-reset/complete", {"reset_token": token, "new_password": password})


def log_in(visitor: Visitor, login: str, password: str) -> httpx.Response:
    return visitor.ask("POST", "/v1/login", {"login": login, "password": password})


def faults(problem: dict[str, Any]) -> dict[str, str]:
    return {fault["field"]: fault["code"] for fault in problem["errors"]}


def failed(*subjects: str) -> None:
    """Far too many wrong passwords, just now."""
    with db.connection() as conn:
        for subject in subjects:
            FAILED.run(conn, subject=subject, now=clock.now_ms())


def mails_about(stack: Stack, email: str, subject: str) -> list[dict[str, Any]]:
    return [mail for mail in Mailbox(stack.console, email).mails() if subject in mail["subject"]]


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_a_forgotten_password_is_reset(stack: Stack, problem: Problem, format: Format) -> None:
    person, visitor = sign_up(stack, format=format), Visitor(stack.api, format=format)
    phone = sign_in(stack, person.username)
    failed(*map(sessions.account_subject, (person.username, person.email)))
    problem(log_in(visitor, person.email, PASSWORD), 429, "too_many_logins")

    token = prove(stack, visitor, person.email.upper())
    with phone.live() as live:
        assert complete(visitor, token).status_code == 204
        assert live.close_code(1.0) == 4401

    for ended in (person, phone):
        problem(ended.ask("GET", "/v1/me"), 401, "session_ended")
    problem(log_in(visitor, person.email, PASSWORD), 401, "bad_credentials")
    for login in (person.email, person.username):
        assert decoded(log_in(visitor, login, NEW))["user"]["username"] == person.username
    (told,) = wait_until(lambda: mails_about(stack, person.email, "was changed"))
    assert person.username in told["text"]
    assert person.username in told["html"]
    assert faults(problem(complete(visitor, token), 422, "invalid")) == {"reset_token": "invalid_token"}


def test_an_address_without_an_account_is_answered_alike_and_mailed_nothing(
    stack: Stack, alice: Person, visitor: Visitor, problem: Problem
) -> None:
    nobody = f"nobody{secrets.token_hex(6)}@example.com"
    there, absent = (visitor.ask("POST", "/v1/password-reset", {"email": email}) for email in (alice.email, nobody))
    assert there.status_code == absent.status_code == 202
    assert there.json().keys() == absent.json().keys() == {"reset_token", "expires_at"}
    assert len(there.json()["reset_token"]) == len(absent.json()["reset_token"])
    said = []
    for email, token in ((alice.email, there.json()["reset_token"]), (nobody, absent.json()["reset_token"])):
        body = {"reset_token": token, "code": "000000"}
        answers = [visitor.ask("POST", "/v1/password-reset/verify", body) for _ in range(6)]
        said.append([faults(answer.json()) for answer in answers])
        wait_until(lambda email=email: email == nobody or mails_about(stack, email, "is your code"))
    assert said[0] == said[1] == [{"code": "wrong_code"}] * 5 + [{"reset_token": "invalid_token"}]
    # What was asked for later has been mailed by now, and nothing to this address.
    other = sign_up(stack)
    assert begin(visitor, other.email)
    wait_until(lambda: mails_about(stack, other.email, "is your code"))
    assert Mailbox(stack.console, nobody).mails() == []


def test_a_reset_dies_with_the_fifth_wrong_code(
    stack: Stack, alice: Person, visitor: Visitor, problem: Problem
) -> None:
    box = Mailbox(stack.console, alice.email)
    before = len(box.mails())
    token = begin(visitor, alice.email)
    code = box.code(before)
    wrong = {"reset_token": token, "code": f"{(int(code) + 1) % 1_000_000:06d}"}
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: visitor.ask("POST", "/v1/password-reset/verify", wrong), range(12)))
    said = sorted("".join(faults(problem(answer, 422, "invalid")).values()) for answer in answers)
    assert said == ["invalid_token"] * 7 + ["wrong_code"] * 5
    right = visitor.ask("POST", "/v1/password-reset/verify", {"reset_token": token, "code": code})
    assert faults(problem(right, 422, "invalid")) == {"reset_token": "invalid_token"}


def test_a_reset_ends_with_its_time(stack: Stack, alice: Person, visitor: Visitor, problem: Problem) -> None:
    token = prove(stack, visitor, alice.email)
    with db.connection() as conn:
        assert AGE.run(conn, email=alice.email)
    assert faults(problem(complete(visitor, token), 422, "invalid")) == {"reset_token": "invalid_token"}
    assert alice.get("/v1/me")["email"] == alice.email


def test_of_several_resets_under_way_the_first_to_end_ends_the_rest(
    stack: Stack, alice: Person, visitor: Visitor, problem: Problem
) -> None:
    proven = [prove(stack, visitor, alice.email) for _ in range(3)]
    assert len(set(proven)) == 3
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda n: complete(visitor, proven[n % 3], f"{NEW} {n}"), range(6)))
    assert sorted(answer.status_code for answer in answers) == [204] + [422] * 5
    winner = next(n for n, answer in enumerate(answers) if answer.status_code == 204)
    assert log_in(visitor, alice.email, f"{NEW} {winner}").status_code == 200
    wait_until(lambda: mails_about(stack, alice.email, "was changed"))
    assert len(mails_about(stack, alice.email, "was changed")) == 1


def test_a_change_ends_the_resets_under_way(stack: Stack, alice: Person, visitor: Visitor, problem: Problem) -> None:
    token = prove(stack, visitor, alice.email)
    changed = {"current_password": PASSWORD, "new_password": NEW}
    assert alice.ask("PUT", "/v1/me/password", changed).status_code == 204
    problem(complete(visitor, token, "not the owner's at all"), 422, "invalid")
    assert visitor.ask("POST", "/v1/login", {"login": alice.username, "password": NEW}).status_code == 200


def test_a_signups_token_resets_nothing_nor_the_reverse(
    stack: Stack, alice: Person, visitor: Visitor, problem: Problem
) -> None:
    started = visitor.post("/v1/signup", {"email": f"n{secrets.token_hex(6)}@example.com"})["signup_token"]
    crossed = visitor.ask("POST", "/v1/password-reset/verify", {"reset_token": started, "code": "000000"})
    assert faults(problem(crossed, 422, "invalid")) == {"reset_token": "invalid_token"}
    body = {"signup_token": prove(stack, visitor, alice.email), "username": "somebody_new", "name": "N"}
    crossed = visitor.ask("POST", "/v1/signup/complete", body | {"password": NEW})
    assert faults(problem(crossed, 422, "invalid")) == {"signup_token": "invalid_token"}


def test_a_new_password_has_the_rules_of_any(stack: Stack, alice: Person, visitor: Visitor, problem: Problem) -> None:
    token = prove(stack, visitor, alice.email)
    for password, code in (("short", "wrong_length"), ("password123", "too_common"), (alice.username, "too_obvious")):
        assert faults(problem(complete(visitor, token, password), 422, "invalid")) == {"new_password": code}
        body = {"current_password": PASSWORD, "new_password": password}
        assert faults(problem(alice.ask("PUT", "/v1/me/password", body), 422, "invalid")) == {"new_password": code}
    assert complete(visitor, token).status_code == 204


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_a_password_is_changed_and_other_devices_end(stack: Stack, problem: Problem, format: Format) -> None:
    person, visitor = sign_up(stack, format=format), Visitor(stack.api, format=format)
    phone = sign_in(stack, person.username)
    with phone.live() as live, person.live() as own:
        body = {"current_password": PASSWORD, "new_password": NEW}
        assert person.ask("PUT", "/v1/me/password", body).status_code == 204
        assert live.close_code(1.0) == 4401
        assert own.act("ping")["ok"]
    problem(phone.ask("GET", "/v1/me"), 401, "session_ended")
    assert person.get("/v1/me")["email"] == person.email
    problem(log_in(visitor, person.email, PASSWORD), 401, "bad_credentials")
    assert log_in(visitor, person.email, NEW).status_code == 200
    assert wait_until(lambda: mails_about(stack, person.email, "was changed"))


def test_wrong_passwords_count_together_of_who_is_signed_in_and_who_is_not(
    alice: Person, visitor: Visitor, problem: Problem
) -> None:
    wrong = {"current_password": "not this one", "new_password": NEW}
    for _ in range(2):
        problem(log_in(visitor, alice.username, "not this one"), 401, "bad_credentials")
    for _ in range(sessions.FREE_TRIES - 2):
        problem(alice.ask("PUT", "/v1/me/password", wrong), 403, "wrong_password")
    by_username, by_email = sessions.account_subjects(alice.username, alice.email)
    with db.connection() as conn:
        counted = [COUNTED.one(conn, subject=subject).count for subject in (by_username, by_email)]
    assert counted == [sessions.FREE_TRIES, sessions.FREE_TRIES - 2]

    # Nor is the right one tried while either has to wait.
    failed(by_email)
    throttled = alice.ask("PUT", "/v1/me/password", {"current_password": PASSWORD, "new_password": NEW})
    problem(throttled, 429, "too_many_logins")
    assert int(throttled.headers["retry-after"]) > 60
    problem(log_in(visitor, alice.email, PASSWORD), 429, "too_many_logins")


def test_the_right_password_forgives_what_was_counted(alice: Person) -> None:
    wrong, right = ({"current_password": word, "new_password": NEW} for word in ("not this one", PASSWORD))
    assert [alice.ask("PUT", "/v1/me/password", body).status_code for body in (wrong, right)] == [403, 204]
    with db.connection() as conn:
        for subject in sessions.account_subjects(alice.username, alice.email):
            assert COUNTED.maybe(conn, subject=subject) is None


def test_of_two_changes_at_once_one_is_made(alice: Person, visitor: Visitor) -> None:
    bodies = [{"current_password": PASSWORD, "new_password": f"{NEW} {n}"} for n in range(4)]
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda body: alice.ask("PUT", "/v1/me/password", body).status_code, bodies))
    assert sorted(answers) == [204, 403, 403, 403]
    chosen = bodies[answers.index(204)]["new_password"]
    assert log_in(visitor, alice.email, chosen).status_code == 200


def test_a_login_that_comes_while_the_password_changes_opens_nothing(alice: Person, stack: Stack) -> None:
    with ThreadPoolExecutor(8) as threads:
        logins = [threads.submit(log_in, Visitor(stack.api), alice.username, PASSWORD) for _ in range(4)]
        alice.put("/v1/me/password", {"current_password": PASSWORD, "new_password": NEW})
    opened = [login.result().json()["session"] for login in logins if login.result().status_code == 200]
    for session in opened:
        late = Person(stack, alice.username, {"session": session})
        assert late.ask("GET", "/v1/me").status_code == 401
    assert [one["current"] for one in alice.get("/v1/me/sessions")["items"]] == [True]
