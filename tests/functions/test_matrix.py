"""Who may do what: every target, as everybody, in one table. A target without a row fails."""

import secrets
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from infra import targets
from infra.leaks import plant
from infra.local.stack import Stack
from shared.kernel.endpoint import ENDPOINTS
from shared.moderation import actions as moderation
from tests.client import Visitor, sign_in, sign_up, wait_until

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
WHO_MAY_ACT = "401 {0} {0} {0} 404 401 {0}"
WITH_ANOTHER = "401 {0} {0} 422 404 401 {0}"
TO_ANOTHER = WITH_ANOTHER.format(200)
THE_OWNER = "401 403 403 {0} 404 401 403"
WHOSE_IT_IS = "401 404 404 {0} 404 401 404"
MODERATORS = "401 403 403 403 403 401 {0}"
EMOJI = {"emoji": "👍"}
MESSAGE: dict[str, Any] = {"client_id": "matrix", "content": {"type": "text", "text": "Hm"}}
ROWS = {
    "request_signup": Row("/v1/signup", ANYONE.format(202), {"email": f"{secrets.token_hex(8)}@example.com"}),
    "verify_signup": Row("/v1/signup/verify", ANYONE.format(422), {}),
    "complete_signup": Row("/v1/signup/complete", ANYONE.format(422), {}),
    "login": Row("/v1/login", ANYONE.format(422), {}),
    "refresh_session": Row("/v1/session/refresh", ANYONE.format(401), {"refresh_token": "x"}),
    "logout": Row("/v1/logout", SIGNED_IN.format(204)),
    "list_sessions": Row("/v1/me/sessions", SIGNED_IN.format(200)),
    "end_session": Row("/v1/me/sessions/{session_id}", WHOSE_IT_IS.format(204)),
    "end_other_sessions": Row("/v1/me/sessions", SIGNED_IN.format(204)),
    "request_password_reset": Row("/v1/password-reset", ANYONE.format(422), {}),
    "verify_password_reset": Row("/v1/password-reset/verify", ANYONE.format(422), {}),
    "complete_password_reset": Row("/v1/password-reset/complete", ANYONE.format(422), {}),
    "change_password": Row("/v1/me/password", SIGNED_IN.format(422), {}),
    "delete_account": Row("/v1/me", SIGNED_IN.format(422), {}),
    "export_account": Row("/v1/me/export", SIGNED_IN.format(202)),
    "create_live_ticket": Row("/v1/live/tickets", SIGNED_IN.format(201)),
    "get_me": Row("/v1/me", SIGNED_IN.format(200)),
    "edit_profile": Row("/v1/me", SIGNED_IN.format(200), {}),
    "change_profile_picture": Row("/v1/me/picture", SIGNED_IN.format(422), {}),
    "remove_profile_picture": Row("/v1/me/picture", SIGNED_IN.format(200)),
    "get_profile": Row("/v1/users/{username}", WHO_MAY_SEE),
    "list_followers": Row("/v1/users/{username}/followers", WHO_MAY_ACT.format(200)),
    "list_following": Row("/v1/users/{username}/following", WHO_MAY_ACT.format(200)),
    "follow": Row("/v1/users/{username}/follow", TO_ANOTHER),
    "unfollow": Row("/v1/users/{username}/follow", TO_ANOTHER),
    "block": Row("/v1/users/{username}/block", TO_ANOTHER),
    "unblock": Row("/v1/users/{username}/block", TO_ANOTHER),
    "mute": Row("/v1/users/{username}/mute", TO_ANOTHER),
    "unmute": Row("/v1/users/{username}/mute", TO_ANOTHER),
    "list_blocked": Row("/v1/me/blocked", SIGNED_IN.format(200)),
    "list_muted": Row("/v1/me/muted", SIGNED_IN.format(200)),
    "list_saved_posts": Row("/v1/me/saved", SIGNED_IN.format(200)),
    "list_reacted_posts": Row("/v1/me/reacted", SIGNED_IN.format(200)),
    "list_commented_posts": Row("/v1/me/commented", SIGNED_IN.format(200)),
    "list_mentioned_posts": Row("/v1/me/mentioned", SIGNED_IN.format(200)),
    "authorize_uploads": Row("/v1/uploads", SIGNED_IN.format(201), UPLOAD),
    "create_post": Row("/v1/posts", SIGNED_IN.format(422), {}),
    "get_post": Row("/v1/posts/{post_id}", WHO_MAY_SEE),
    "edit_post": Row("/v1/posts/{post_id}", THE_OWNER.format(200), {"description": "Edited"}),
    "delete_post": Row("/v1/posts/{post_id}", THE_OWNER.format(204)),
    "list_user_posts": Row("/v1/users/{username}/posts", WHO_MAY_SEE),
    "react_to_post": Row("/v1/posts/{post_id}/reaction", WHO_MAY_ACT.format(200), EMOJI),
    "unreact_to_post": Row("/v1/posts/{post_id}/reaction", WHO_MAY_ACT.format(200)),
    "list_post_reactions": Row("/v1/posts/{post_id}/reactions", WHO_MAY_ACT.format(200)),
    "save_post": Row("/v1/posts/{post_id}/save", WHO_MAY_ACT.format(200)),
    "unsave_post": Row("/v1/posts/{post_id}/save", WHO_MAY_ACT.format(200)),
    "repost": Row("/v1/posts/{post_id}/repost", WHO_MAY_ACT.format(200)),
    "undo_repost": Row("/v1/posts/{post_id}/repost", WHO_MAY_ACT.format(200)),
    "list_reposts": Row("/v1/posts/{post_id}/reposts", WHO_MAY_ACT.format(200)),
    "comment_on_post": Row("/v1/posts/{post_id}/comments", WHO_MAY_ACT.format(201), {"text": "Hm"}),
    "list_post_comments": Row("/v1/posts/{post_id}/comments", WHO_MAY_SEE),
    "get_comment": Row("/v1/comments/{comment_id}", WHO_MAY_SEE),
    "edit_comment": Row("/v1/comments/{comment_id}", THE_OWNER.format(200), {"text": "Edited"}),
    "delete_comment": Row("/v1/comments/{comment_id}", THE_OWNER.format(204)),
    "reply_to_comment": Row("/v1/comments/{comment_id}/replies", WHO_MAY_ACT.format(201), {"text": "Hm"}),
    "list_replies": Row("/v1/comments/{comment_id}/replies", WHO_MAY_SEE),
    "react_to_comment": Row("/v1/comments/{comment_id}/reaction", WHO_MAY_ACT.format(200), EMOJI),
    "unreact_to_comment": Row("/v1/comments/{comment_id}/reaction", WHO_MAY_ACT.format(200)),
    "list_comment_reactions": Row("/v1/comments/{comment_id}/reactions", WHO_MAY_ACT.format(200)),
    "list_chats": Row("/v1/chats", SIGNED_IN.format(200)),
    "list_messages": Row("/v1/chats/{username}/messages", WITH_ANOTHER.format(200)),
    "send_message": Row("/v1/chats/{username}/messages", WITH_ANOTHER.format(201), MESSAGE),
    "acknowledge_messages": Row("/v1/chats/{username}/ack", WITH_ANOTHER.format(422), {"read_up_to": "0" * 13}),
    "accept_chat": Row("/v1/chats/{username}/accept", WITH_ANOTHER.format(200)),
    "decline_chat": Row("/v1/chats/{username}/decline", WITH_ANOTHER.format(200)),
    "clear_chat": Row("/v1/chats/{username}", WITH_ANOTHER.format(204)),
    "edit_message": Row("/v1/messages/{message_id}", WHOSE_IT_IS.format(200), {"content": MESSAGE["content"]}),
    "delete_message": Row("/v1/messages/{message_id}", WHOSE_IT_IS.format(204)),
    "react_to_message": Row("/v1/messages/{message_id}/reaction", WHOSE_IT_IS.format(200), EMOJI),
    "unreact_to_message": Row("/v1/messages/{message_id}/reaction", WHOSE_IT_IS.format(200)),
    "get_feed": Row("/v1/feed", SIGNED_IN.format(200)),
    "list_notifications": Row("/v1/notifications", SIGNED_IN.format(200)),
    "mark_notification_read": Row("/v1/notifications/{notification_id}/read", WHOSE_IT_IS.format(200)),
    "mark_all_read": Row("/v1/notifications/read", SIGNED_IN.format(200)),
    "edit_notification_settings": Row("/v1/me/notification-settings", SIGNED_IN.format(200), {}),
    "report": Row("/v1/reports", SIGNED_IN.format(422), {}),
    "list_reports": Row("/v1/reports", MODERATORS.format(200)),
    "resolve_report": Row("/v1/reports/{report_id}/resolution", MODERATORS.format(200), {"action": "dismiss"}),
}


class Cast:
    """Somebody in each role, and what the owner owns."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.people = {role: sign_up(stack) for role in ROLES[1:]}
        self.owner = self.people["owner"]
        self.bystander = sign_up(stack)
        self.bystander.follow(self.owner.username)
        moderation.set_moderator(self.people["moderator"].username, moderator=True)
        plant.suspend(stack, self.people["suspended"])
        self.stand_anew()
        for role in ("stranger", "follower", "moderator"):
            self.owner.post(f"/v1/chats/{self.people[role].username}/messages", MESSAGE)
        self.notification = wait_until(lambda: self.owner.get("/v1/notifications")["items"])[0]["id"]

    def stand_anew(self) -> None:
        """The follower follows, one is blocked, and there is nothing else between any, whatever was tried."""
        user = f"/v1/users/{self.owner.username}"
        for role in ("stranger", "moderator", "follower", "blocked"):
            for relation in ("block", "mute", "follow"):
                self.people[role].ask("DELETE", f"{user}/{relation}")
        self.people["follower"].follow(self.owner.username)
        self.owner.put(f"/v1/users/{self.people['blocked'].username}/block")

    def client(self, role: str, target: str) -> Visitor:
        """Who asks; with a session of its own for what ends that."""
        if role == "visitor":
            return Visitor(self.stack.api)
        ends = target == "logout" and role != "suspended"
        return sign_in(self.stack, self.people[role].username) if ends else self.people[role]

    def path(self, path: str) -> str:
        """The path to what is the owner's, made for it; a report is of somebody else."""
        made = {name: make() for name, make in self._makers().items() if f"{{{name}}}" in path}
        return path.format(**made)

    def _makers(self) -> dict[str, Callable[[], str]]:
        return {
            "username": lambda: self.owner.username,
            "post_id": self._post,
            "comment_id": lambda: self.owner.post(f"/v1/posts/{self._post()}/comments", {"text": "Whose?"})["id"],
            "message_id": self._message,
            "session_id": lambda: sign_in(self.stack, self.owner.username).session["id"],
            "notification_id": lambda: self.notification,
            "report_id": self._report,
        }

    def _post(self) -> str:
        return self.owner.post_photo("Whose?")["id"]

    def _message(self) -> str:
        message = MESSAGE | {"client_id": secrets.token_hex(8)}
        return self.owner.post(f"/v1/chats/{self.bystander.username}/messages", message)["id"]

    def _report(self) -> str:
        subject = {"type": "post", "id": self.bystander.post_photo("Reported")["id"]}
        return self.owner.post("/v1/reports", {"subject": subject, "reason": "spam"})["id"]


ABSENT = {
    "username": "user_not_found",
    "post_id": "post_not_found",
    "comment_id": "comment_not_found",
    "message_id": "message_not_found",
    "session_id": "session_not_found",
    "notification_id": "notification_not_found",
}


# Public profiles, posts and their comments, as docs/API.md says. Who follows, reacts or reposts is none of these: of
# that visitors see the counts.
READ_SIGNED_OUT = {"get_profile", "list_user_posts", "get_post", "list_post_comments", "get_comment", "list_replies"}


@pytest.fixture(scope="module")
def everybody(stack: Stack) -> Cast:
    targets.load()
    return Cast(stack)


@pytest.fixture(autouse=True)
def _as_it_was(everybody: Cast) -> Iterator[None]:
    yield
    everybody.stand_anew()


def test_every_target_has_a_row_of_its_own_path() -> None:
    assert {name: row.path for name, row in ROWS.items()} == {one.name: one.path for one in ENDPOINTS.values()}
    assert all(len(row.statuses.split()) == len(ROLES) for row in ROWS.values())


def test_visitors_read_profiles_posts_and_comments_and_nothing_else() -> None:
    let_in = {name for name, row in ROWS.items() if not row.statuses.startswith("401")}
    # What is public is for signing up and in.
    assert {name for name in let_in if ENDPOINTS[name].auth != "public"} == READ_SIGNED_OUT


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
    nothing = dict.fromkeys((name for name in ABSENT if name != "username"), "0" * 13)
    absent = row.path.format(username=f"x{secrets.token_hex(6)}", **nothing)
    missing = blocked.ask(ENDPOINTS[name].method, absent, row.body)
    code = next(code for parameter, code in ABSENT.items() if f"{{{parameter}}}" in row.path)
    assert problem(hidden, 404, code) | {"instance": ""} == problem(missing, 404, code) | {"instance": ""}
