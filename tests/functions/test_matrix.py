"""Who may do what: every target, as everybody, in one table. A target without a row fails."""

import secrets
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from infra import moderator, targets
from infra.leaks import plant
from infra.local.stack import Stack
from shared.kernel.endpoint import ENDPOINTS
from tests.client import Visitor, sign_in, sign_up

# `owner` has what is named in the path, or asks for themselves. `blocked` is so by the owner.
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
# The code of what is absent, by what is named in the path.
ABSENT = {
    "{post_id}": "post_not_found",
    "{comment_id}": "comment_not_found",
    "{session_id}": "session_not_found",
    "{notification_id}": "notification_not_found",
}
ENGAGE = "401 200 200 200 404 401 200"
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
    "list_sessions": Row("/v1/me/sessions", SIGNED_IN.format(200)),
    "end_session": Row("/v1/me/sessions/{session_id}", "401 404 404 204 404 401 404"),
    "end_other_sessions": Row("/v1/me/sessions", SIGNED_IN.format(204)),
    "request_password_reset": Row("/v1/password-reset", ANYONE.format(202), {"email": "nobody@example.com"}),
    "verify_password_reset": Row("/v1/password-reset/verify", ANYONE.format(422), {}),
    "complete_password_reset": Row("/v1/password-reset/complete", ANYONE.format(422), {}),
    "change_password": Row("/v1/me/password", SIGNED_IN.format(422), {}),
    "delete_account": Row("/v1/me", SIGNED_IN.format(422), {}),
    "export_account": Row("/v1/me/export", SIGNED_IN.format(422), {"x": 1}),
    "edit_profile": Row("/v1/me", SIGNED_IN.format(200), {"bio": "Hello"}),
    "change_profile_picture": Row("/v1/me/picture", SIGNED_IN.format(422), {}),
    "remove_profile_picture": Row("/v1/me/picture", SIGNED_IN.format(200)),
    "list_followers": Row("/v1/users/{username}/followers", WHO_MAY_SEE),
    "list_following": Row("/v1/users/{username}/following", WHO_MAY_SEE),
    "block": Row("/v1/users/{username}/block", "401 200 200 422 404 401 200"),
    "unblock": Row("/v1/users/{username}/block", "401 200 200 422 404 401 200"),
    "mute": Row("/v1/users/{username}/mute", "401 200 200 422 404 401 200"),
    "unmute": Row("/v1/users/{username}/mute", "401 200 200 422 404 401 200"),
    "list_blocked": Row("/v1/me/blocked", SIGNED_IN.format(200)),
    "list_muted": Row("/v1/me/muted", SIGNED_IN.format(200)),
    "edit_post": Row("/v1/posts/{post_id}", "401 403 403 200 404 401 403", {"description": "Edited"}),
    "react_to_post": Row("/v1/posts/{post_id}/reaction", ENGAGE, {"emoji": "🌻"}),
    "unreact_to_post": Row("/v1/posts/{post_id}/reaction", ENGAGE),
    "save_post": Row("/v1/posts/{post_id}/save", ENGAGE),
    "unsave_post": Row("/v1/posts/{post_id}/save", ENGAGE),
    "repost": Row("/v1/posts/{post_id}/repost", ENGAGE),
    "undo_repost": Row("/v1/posts/{post_id}/repost", ENGAGE),
    "list_post_reactions": Row("/v1/posts/{post_id}/reactions", ENGAGE),
    "list_reposts": Row("/v1/posts/{post_id}/reposts", ENGAGE),
    "list_saved_posts": Row("/v1/me/saved", SIGNED_IN.format(200)),
    "list_reacted_posts": Row("/v1/me/reacted", SIGNED_IN.format(200)),
    "list_mentioned_posts": Row("/v1/me/mentioned", SIGNED_IN.format(200)),
    "list_commented_posts": Row("/v1/me/commented", SIGNED_IN.format(200)),
    "comment_on_post": Row("/v1/posts/{post_id}/comments", "401 201 201 201 404 401 201", {"text": "Nice"}),
    "list_post_comments": Row("/v1/posts/{post_id}/comments", WHO_MAY_SEE),
    "get_comment": Row("/v1/comments/{comment_id}", WHO_MAY_SEE),
    "edit_comment": Row("/v1/comments/{comment_id}", "401 403 403 200 404 401 403", {"text": "Edited"}),
    "delete_comment": Row("/v1/comments/{comment_id}", "401 403 403 204 404 401 403"),
    "reply_to_comment": Row("/v1/comments/{comment_id}/replies", "401 201 201 201 404 401 201", {"text": "Nice"}),
    "list_replies": Row("/v1/comments/{comment_id}/replies", WHO_MAY_SEE),
    "react_to_comment": Row("/v1/comments/{comment_id}/reaction", ENGAGE, {"emoji": "🌻"}),
    "unreact_to_comment": Row("/v1/comments/{comment_id}/reaction", ENGAGE),
    "list_comment_reactions": Row("/v1/comments/{comment_id}/reactions", ENGAGE),
    "mark_notification_read": Row("/v1/notifications/{notification_id}/read", "401 404 404 200 404 401 404"),
    "edit_notification_settings": Row("/v1/me/notification-settings", SIGNED_IN.format(200), {"follow": True}),
    "report": Row("/v1/reports", SIGNED_IN.format(422), {}),
    "list_reports": Row("/v1/reports", "401 403 403 403 403 401 200"),
    "resolve_report": Row("/v1/reports/{report_id}/resolution", "401 403 403 403 403 401 200", {"action": "dismiss"}),
}


class Cast:
    """Somebody in each role, and what the owner owns."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.people = {role: sign_up(stack) for role in ROLES[1:]}
        self.owner = self.people["owner"]
        plant.block(self.owner, self.people["blocked"])
        plant.leave(plant.id_of(self.people["suspended"]), "suspended")
        assert moderator.main([self.people["moderator"].username, "--data", str(stack.data)]) == 0
        self.follow_anew()

    def follow_anew(self) -> None:
        """The follower follows, and nobody else, whatever was tried."""
        for role in ("stranger", "follower", "moderator"):
            self.people[role].delete(f"/v1/users/{self.owner.username}/block")
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
        owner = self.owner
        made: dict[str, Callable[[], str]] = {
            "username": lambda: owner.username,
            "post_id": lambda: owner.post_photo("Whose?")["id"],
            "comment_id": lambda: self._comment()["id"],
            "session_id": lambda: sign_in(self.stack, owner.username).session["id"],
            "notification_id": lambda: owner.get("/v1/notifications")["items"][0]["id"],
            "report_id": self._report,
        }
        return path.format_map({name: make() for name, make in made.items() if f"{{{name}}}" in path})

    def _comment(self) -> dict[str, Any]:
        post = self.owner.post_photo("Whose?")
        return self.owner.post(f"/v1/posts/{post['id']}/comments", {"text": "Mine"})

    def _report(self) -> str:
        subject = {"type": "comment", "id": self._comment()["id"]}
        return self.people["stranger"].post("/v1/reports", {"subject": subject, "reason": "spam"})["id"]


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
    nothing = dict.fromkeys(("post_id", "comment_id", "session_id", "notification_id"), "0" * 13)
    absent = row.path.format(username=f"x{secrets.token_hex(6)}", **nothing)
    missing = blocked.ask(ENDPOINTS[name].method, absent, row.body)
    code = next((code for kind, code in ABSENT.items() if kind in row.path), "user_not_found")
    assert problem(hidden, 404, code) | {"instance": ""} == problem(missing, 404, code) | {"instance": ""}
