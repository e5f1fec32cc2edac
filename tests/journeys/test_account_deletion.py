"""Deleting an account: gone at once for everyone, erased in the background, nothing left behind but a receipt."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import msgspec
import pytest

from infra.local.stack import Stack
from infra.photos import make_photo
from shared.accounts import erasure, mail, sessions
from shared.accounts.model import AccountErased, ErasureDue
from shared.kernel import cache, clock, db, graph, ids
from shared.kernel.recent import MARK
from shared.kernel.upkeep import UpkeepDue
from shared.profiles import reads as profiles
from tests.accounts.receipts import LEFT, RECEIPT, Receipt, There
from tests.client import (
    PASSWORD,
    Format,
    Mailbox,
    Person,
    Visitor,
    decoded,
    send,
    sign_in,
    sign_up,
    standing_still,
    wait_until,
)

Problem = Callable[[httpx.Response, int, str], dict[str, Any]]


class Former(msgspec.Struct, frozen=True):
    username: str
    state: str
    rest: str


RELATION = db.Statement(
    """INSERT INTO relationships (user_id, other_id, blocked_at, muted_at)
       VALUES (:user_id, :other_id, CAST(:blocked AS bigint), CAST(:muted AS bigint))"""
)
FORMER = db.Statement("SELECT username, state, CAST(to_json(u) AS text) FROM users u WHERE id = :user_id", Former)
ROWS = db.Statement("SELECT count(*) FROM relationships WHERE :user_id IN (user_id, other_id)", There)
OLD = db.Statement("UPDATE uploads SET created_at = created_at - 3600000 WHERE user_id = :user_id")
FAILED = db.Statement(
    """INSERT INTO login_failures (subject, failures, last_at) VALUES (:subject, 1000, :now)
       ON CONFLICT (subject) DO UPDATE SET failures = 1000, last_at = :now"""
)
LATE_POST = db.Statement(
    """INSERT INTO posts (id, author_id, type, media, description, created_at)
       VALUES (:id, :user_id, 'reel', '[{"actual": "a"}]', 'Late', 1)"""
)
LONG_AGO = db.Statement("UPDATE erasures SET ended_at = ended_at - 2 * 86400000 WHERE user_id = :user_id")
DUE = db.Statement("UPDATE schedules SET next_at = 0 WHERE topic = :topic")


def id_of(person: Person) -> int:
    return profiles.named([person.username])[person.username]


def leave(person: Person, password: str = PASSWORD) -> httpx.Response:
    return person.ask("DELETE", "/v1/me", {"password": password})


def receipt(user_id: int) -> Receipt | None:
    with db.connection() as conn:
        return RECEIPT.maybe(conn, user_id=user_id)


def ended(user_id: int, seconds: float = 30) -> Receipt:
    """The receipt, once all is erased and the last mail has gone."""

    def over() -> Receipt | None:
        found = receipt(user_id)
        return found if found and found.ended_at and found.email is None else None

    found = wait_until(over, seconds)
    assert found
    return found


def left(user_id: int, email: str) -> int:
    with db.connection() as conn:
        return LEFT.one(conn, user_id=user_id, email=email, scope=f"user:{user_id}").count


def in_graph(user_id: int) -> tuple[int, int]:
    """Whether a user is there, and how many follows lead to or from them."""
    (users,) = graph.read("MATCH (u:User {id: $id}) RETURN count(u) AS n", id=user_id)
    (follows,) = graph.read("MATCH (u:User {id: $id})-[f:FOLLOWS]-() RETURN count(f) AS n", id=user_id)
    return users["n"], follows["n"]


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_leaving_takes_all_of_it_along(stack: Stack, bob: Person, problem: Problem, format: Format) -> None:
    ada, visitor = sign_up(stack, format=format), Visitor(stack.api, format=format)
    carol = sign_up(stack)
    user_id = id_of(ada)
    bob.follow(ada.username)
    ada.follow(bob.username)
    ada.follow(carol.username)
    posts = [ada.post_photo(f"Number {n} @{bob.username}", seed=n) for n in range(3)]
    ada.delete(f"/v1/posts/{posts[0]['id']}")
    bob.post_photo(f"With @{ada.username}")
    wait_until(lambda: len(bob.get("/v1/feed")["items"]) == 3)
    wait_until(lambda: {one["type"] for one in bob.get("/v1/notifications")["items"]} == {"follow", "mention"})
    wait_until(lambda: len(ada.get("/v1/notifications")["items"]) == 2)
    ada.post("/v1/live/tickets", idempotency_key="one")
    ada.post("/v1/me/export")
    wait_until(lambda: any("archive" in one["subject"] for one in Mailbox(stack.console, ada.email).mails()))
    visitor.post("/v1/password-reset", {"email": ada.email})
    wait_until(lambda: in_graph(user_id) == (1, 3))
    with db.connection() as conn:
        OLD.run(conn, user_id=user_id)
    phone = sign_in(stack, ada.username)

    with phone.live() as live:
        answer = leave(ada)
        assert answer.status_code == 204
        assert "max-age=0" in answer.headers["set-cookie"].lower()
        assert live.close_code(1.0) == 4401

    # At once, for everyone.
    for gone in (ada, phone):
        problem(gone.ask("GET", "/v1/me"), 401, "session_ended")
    for reader in (bob, visitor):
        assert reader.ask("GET", f"/v1/users/{ada.username}").status_code == 404
        assert reader.ask("GET", f"/v1/users/{ada.username}/posts").status_code == 404
        assert reader.ask("GET", f"/v1/posts/{posts[1]['id']}").status_code == 404
    assert [post["author"]["username"] for post in bob.get("/v1/feed")["items"]] == [bob.username]
    assert bob.ask("PUT", f"/v1/users/{ada.username}/follow").status_code == 404
    for login in (ada.email, ada.username):
        refused = visitor.ask("POST", "/v1/login", {"login": login, "password": PASSWORD})
        problem(refused, 401, "bad_credentials")
    refresh = visitor.ask("POST", "/v1/session/refresh", {"refresh_token": phone.session["refresh_token"]})
    problem(refresh, 401, "invalid_refresh_token")

    # And then for good.
    told = ended(user_id)
    assert told.ended_at is not None
    assert told.begun_at <= told.ended_at
    assert told.counts == told.counts | {
        "posts": 2,
        "profile": 1,
        "following": 2,
        "followers": 1,
        "notifications": 2,
        "sessions": 2,
        "media": 4,
        "archives": 1,
        "resets and signups": 1,
        "idempotency keys": 1,
        "graph users": told.counts["graph users"],
    }
    assert told.counts["posts deleted before"] == 1
    assert left(user_id, ada.email) == 0
    with db.connection() as conn:
        former = FORMER.one(conn, user_id=user_id)
    assert (former.username, former.state) == (ada.username, "deleted")
    for word in (ada.email, "argon2", ada.username.title()):
        assert word not in former.rest
    for person in (bob, carol):
        wait_until(lambda person=person: person.get(f"/v1/users/{person.username}")["counts"]["followers"] == 0)
    assert bob.get("/v1/me")["counts"] == {"posts": 1, "followers": 0, "following": 0}
    wait_until(lambda: bob.get("/v1/notifications")["items"] == [])
    assert bob.get("/v1/me")["unread"]["notifications"] == 0
    for post in posts:
        for address in (post["media"][0]["url"], post["media"][0]["placeholder_url"]):
            wait_until(lambda address=address: httpx.get(address, trust_env=False).status_code == 404)
    wait_until(lambda: in_graph(user_id) == (0, 0))
    name = ids.encode(user_id)
    keys = {key.decode() for key in cache.redis().scan_iter(f"*{name}*", count=1000)}
    holding = {key for key in keys if key.startswith(tuple(key.format("") for key in erasure.REDIS_KEYS))}
    assert {key for key in holding if "dropped" not in key} <= {f"notifications:{name}"}
    (kept,) = cache.run_sync(("GET", f"notifications:{name}"))
    assert kept is None or kept.startswith(MARK)
    mails = Mailbox(stack.console, ada.email).mails()
    assert mails[0]["subject"] == "Your i9lyfe account is erased"


def test_the_address_is_free_and_the_username_is_not(stack: Stack, alice: Person, visitor: Visitor) -> None:
    assert leave(alice).status_code == 204
    box = Mailbox(stack.console, alice.email)
    before = len(box.mails())
    token = visitor.post("/v1/signup", {"email": alice.email})["signup_token"]
    wait_until(lambda: [one for one in box.mails()[: -before or None] if "is your i9lyfe code" in one["subject"]])
    code = next(one for one in box.mails() if "is your i9lyfe code" in one["subject"])["subject"][:6]
    token = visitor.post("/v1/signup/verify", {"signup_token": token, "code": code})["signup_token"]
    body = {"signup_token": token, "username": alice.username, "name": "Not her", "password": PASSWORD}
    taken = visitor.ask("POST", "/v1/signup/complete", body)
    assert (taken.status_code, decoded(taken)["code"]) == (409, "username_taken")
    again = Person(
        stack, f"{alice.username}2", visitor.post("/v1/signup/complete", body | {"username": f"{alice.username}2"})
    )
    assert again.get("/v1/me")["email"] == alice.email
    assert again.get("/v1/me")["counts"] == {"posts": 0, "followers": 0, "following": 0}


def test_who_does_not_know_the_password_deletes_nothing(alice: Person, visitor: Visitor, problem: Problem) -> None:
    problem(leave(alice, "not this one"), 403, "wrong_password")
    missing = problem(alice.ask("DELETE", "/v1/me", {}), 422, "invalid")
    assert [(fault["field"], fault["code"]) for fault in missing["errors"]] == [("password", "missing")]
    problem(visitor.ask("DELETE", "/v1/me", {"password": PASSWORD}), 401, "not_signed_in")
    with db.connection() as conn:
        FAILED.run(conn, subject=sessions.account_subject(alice.username), now=clock.now_ms())
    problem(leave(alice), 429, "too_many_logins")
    assert alice.get("/v1/me")["email"] == alice.email


def test_blocks_and_mutes_go_both_ways(alice: Person, bob: Person, stack: Stack) -> None:
    carol = sign_up(stack)
    mine, others = id_of(alice), [id_of(bob), id_of(carol)]
    with db.connection() as conn:
        RELATION.run(conn, user_id=mine, other_id=others[0], blocked=1, muted=None)
        RELATION.run(conn, user_id=mine, other_id=others[1], blocked=None, muted=1)
        RELATION.run(conn, user_id=others[0], other_id=mine, blocked=None, muted=1)
        RELATION.run(conn, user_id=others[1], other_id=mine, blocked=1, muted=None)
    leave(alice)
    told = ended(mine)
    assert told.counts == told.counts | {"blocked or muted": 2, "blocked by": 1, "muted by": 1}
    assert left(mine, alice.email) == 0
    assert [person.get("/v1/me")["counts"]["followers"] for person in (bob, carol)] == [0, 0]

    # Empty rows stay for what comes late, and go a day later.
    with db.connection() as conn:
        assert ROWS.one(conn, user_id=mine).count == 4
        LONG_AGO.run(conn, user_id=mine)
        DUE.run(conn, topic=UpkeepDue.topic)

    def purged() -> bool:
        with db.connection() as conn:
            return ROWS.one(conn, user_id=mine).count == 0

    wait_until(purged)


def test_what_was_under_way_is_erased_a_day_later(stack: Stack, alice: Person, bob: Person) -> None:
    user_id, other_id = id_of(alice), id_of(bob)
    leave(alice)
    first = ended(user_id)
    with db.connection() as conn:
        # As a request leaves it behind that was let in before, and committed after all was erased.
        LATE_POST.run(conn, id=ids.new_id(), user_id=user_id)
        RELATION.run(conn, user_id=user_id, other_id=other_id, blocked=1, muted=None)
        assert left(user_id, alice.email) == 2
        LONG_AGO.run(conn, user_id=user_id)
        DUE.run(conn, topic=UpkeepDue.topic)
    wait_until(lambda: left(user_id, alice.email) == 0)
    second = wait_until(lambda: [one for one in [receipt(user_id)] if one and one.looks == 2 and one.ended_at])[0]
    assert second.counts["posts"] == 1
    assert second.begun_at == first.begun_at
    assert len([one for one in Mailbox(stack.console, alice.email).mails() if "erased" in one["subject"]]) == 1


def test_an_upload_under_way_is_swept_with_those_nobody_attached(stack: Stack, alice: Person) -> None:
    user_id = id_of(alice)
    photo = make_photo(1)
    post = alice.post_photo("Just now")
    file = {"variant": "actual", "content_type": "image/jpeg", "size": len(photo.actual)}
    (late,) = alice.post("/v1/uploads", {"purpose": "post", "files": [file]})["uploads"]
    leave(alice)
    ended(user_id)
    assert httpx.get(post["media"][0]["url"], trust_env=False).status_code == 404
    # Its URL is good for a quarter of an hour; so its row waits for the sweep of a day later.
    assert send(late, photo.actual).status_code == 200
    assert left(user_id, alice.email) == 3


def test_the_work_is_handed_on_and_repeats_change_nothing(
    stack: Stack, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_id = id_of(alice)
    fans = [sign_up(stack) for _ in range(3)]
    for fan in fans:
        fan.follow(alice.username)
        alice.follow(fan.username)
    for number in range(3):
        alice.post_photo(str(number), seed=number)
    monkeypatch.setattr(erasure, "TURN_MS", 0)
    monkeypatch.setattr(erasure, "_BATCH", 1)
    with standing_still(stack, "background"):
        leave(alice)
        begun = receipt(user_id)
        assert begun
        # Each event comes twice, and the whole of them once more at the end.
        turn = 0
        while not (found := receipt(user_id)) or found.ended_at is None:
            for _ in range(2):
                erasure.erase(ErasureDue(begun.id, turn))
            turn += 1
            assert turn < 60
        for again in range(turn + 1):
            erasure.erase(ErasureDue(begun.id, again))
        over = receipt(user_id)
        assert over
        assert over.turn > 9
        assert over.counts == over.counts | {"posts": 3, "following": 3, "followers": 3, "profile": 1}
        assert over.counts == found.counts
    told = ended(user_id)
    mail.send_farewell(AccountErased(told.id))
    farewells = [one for one in Mailbox(stack.console, alice.email).mails() if "erased" in one["subject"]]
    assert len(farewells) == 1
    for fan in fans:
        assert fan.get("/v1/me")["counts"] == {"posts": 0, "followers": 0, "following": 0}


def test_a_group_of_many_loses_one(stack: Stack, alice: Person, bob: Person) -> None:
    carol = sign_up(stack)
    bob.follow(alice.username)
    carol.follow(alice.username)
    wait_until(lambda: [one["actor_count"] for one in alice.get("/v1/notifications")["items"]] == [2])
    user_id = id_of(carol)
    leave(carol)
    ended(user_id)
    wait_until(lambda: [one["actor_count"] for one in alice.get("/v1/notifications")["items"]] == [1])
    (group,) = alice.get("/v1/notifications")["items"]
    assert [actor["username"] for actor in group["actors"]] == [bob.username]
    assert alice.get(f"/v1/users/{alice.username}")["counts"]["followers"] == 1


def test_signing_in_while_the_account_goes_opens_nothing(stack: Stack, alice: Person) -> None:
    body = {"login": alice.username, "password": PASSWORD}
    with ThreadPoolExecutor(4) as threads:
        logins = [threads.submit(Visitor(stack.api).ask, "POST", "/v1/login", body) for _ in range(3)]
        assert leave(alice).status_code == 204
    for login in logins:
        answer = login.result()
        if answer.status_code == 200:
            late = Person(stack, alice.username, json.loads(answer.content))
            assert late.ask("GET", "/v1/me").status_code == 401
