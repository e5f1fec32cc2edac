"""Who may do what: every target, as everybody, in one table. A target without a row fails."""

import secrets
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from infra import targets
from infra.leaks import plant
from infra.local.stack import Stack
from shared.kernel.endpoint import ENDPOINTS
from tests.client import Visitor, sign_in, sign_up

# `owner` has what is named in the path, or asks for themselves. `blocked` is so by the owner. Nothing makes a moderator
# yet: until then they are a stranger here.
ROLES = ("visitor", "stranger", "follower", "owner", "blocked", "suspended", "moderator")
UPLOAD = {"purpose": "post", "files": [{"variant": "actual", "content_type": "image/png", "size": 2000}]}


class Row(NamedTuple):
    """A target's path and body, and the status for each role, in the order of ROLES.

    A body that is refused with 422 shows who is let in as well as one that is taken.
    """

    path: str
    statuses: str
    body: Any = None


ANYONE = "{0} {0} {0} {0} {0} {0} {0}"
SIGNED_IN = "401 {0} {0} {0} {0} 401 {0}"
WHO_MAY_SEE = "200 200 200 200 404 401 200"
ROWS = {
    "request_signup": Row("/v1/signup", ANYONE.format(202), {"email": f"{secrets.token_hex(8)}@example.com"}),
    "verify_signup": Row("/v1/signup/verify", ANYONE.format(422), {}),
    "complete_signup": Row("/v1/signup/complete", ANYONE.format(422), {}),
    "login": Row("/v1/login", ANYONE.format(422), {}),
    "refresh_session": Row("/v1/session/refresh", ANYONE.format(401), {"refresh_token": "x"}),
    "logout": Row("/v1/logout", SIGNED_IN.format(204)),
    "create_live_ticket": Row("/v1/live/tickets", SIGNED_IN.format(201)),
    "get_me": Row("/v1/me", SIGNED_IN.format(200)),
    "get_profile": Row("/v1/users/{username}", WHO_MAY_SEE),
    "follow": Row("/v1/users/{username}/follow", "401 200 200 422 404 401 200"),
    "unfollow": Row("/v1/users/{username}/follow", "401 200 200 422 404 401 200"),
    "authorize_uploads": Row("/v1/uploads", SIGNED_IN.format(201), UPLOAD),
    "create_post": Row("/v1/posts", SIGNED_IN.format(422), {}),
    "get_post": Row("/v1/posts/{post_id}", WHO_MAY_SEE),
    "delete_post": Row("/v1/posts/{post_id}", "401 403 403 204 404 401 403"),
    "list_user_posts": Row("/v1/users/{username}/posts", WHO_MAY_SEE),
    "get_feed": Row("/v1/feed", SIGNED_IN.format(200)),
    "list_notifications": Row("/v1/notifications", SIGNED_IN.format(200)),
    "mark_all_read": Row("/v1/notifications/read", SIGNED_IN.format(200)),
}


class Cast:
    """Somebody in each role, and what the owner owns."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.people = {role: sign_up(stack) for role in ROLES[1:]}
        self.owner = self.people["owner"]
        plant.block(self.owner, self.people["blocked"])
        plant.leave(plant.id_of(self.people["suspended"]), "suspended")
        self.follow_anew()

    def follow_anew(self) -> None:
        """The follower follows, and nobody else, whatever was tried."""
        self.people["follower"].follow(self.owner.username)
        for role in ("stranger", "moderator"):
            self.people[role].delete(f"/v1/users/{self.owner.username}/follow")

    def client(self, role: str, target: str) -> Visitor:
        """Who asks; with a session of its own for what ends one."""
        if role == "visitor":
            return Visitor(self.stack.api)
        ends = target == "logout" and role != "suspended"
        return sign_in(self.stack, self.people[role].username) if ends else self.people[role]

    def path(self, path: str) -> str:
        """The path to what is the owner's, made for it."""
        post_id = self.owner.post_photo("Whose?")["id"] if "{post_id}" in path else ""
        return path.format(username=self.owner.username, post_id=post_id)


@pytest.fixture(scope="module")
def everybody(stack: Stack) -> Cast:
    targets.load()
    return Cast(stack)


@pytest.fixture(autouse=True)
def _as_it_was(everybody: Cast) -> Iterator[None]:
    yield
    everybody.follow_anew()


def test_every_target_has_a_row_of_its_own_path() -> None:
    assert {name: row.path for name, row in ROWS.items()} == {one.name: one.path for one in ENDPOINTS.values()}
    assert all(len(row.statuses.split()) == len(ROLES) for row in ROWS.values())


@pytest.mark.parametrize("name", ROWS)
def test_each_role_is_let_in_or_not(everybody: Cast, name: str) -> None:
    row = ROWS[name]
    found = {
        role: everybody.client(role, name).ask(ENDPOINTS[name].method, everybody.path(row.path), row.body).status_code
        for role in ROLES
    }
    assert found == dict(zip(ROLES, map(int, row.statuses.split()), strict=True))


@pytest.mark.parametrize("name", [name for name in ROWS if "404" in ROWS[name].statuses])
def test_what_is_hidden_answers_as_what_is_absent(
    everybody: Cast, problem: Callable[..., dict[str, Any]], name: str
) -> None:
    row, blocked = ROWS[name], everybody.people["blocked"]
    hidden = blocked.ask(ENDPOINTS[name].method, everybody.path(row.path), row.body)
    absent = row.path.format(username=f"x{secrets.token_hex(6)}", post_id="0" * 13)
    missing = blocked.ask(ENDPOINTS[name].method, absent, row.body)
    code = "post_not_found" if "{post_id}" in row.path else "user_not_found"
    assert problem(hidden, 404, code) | {"instance": ""} == problem(missing, 404, code) | {"instance": ""}
