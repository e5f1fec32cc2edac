"""What somebody did who is suspended is told to nobody meanwhile, and is there again when they are."""

from collections.abc import Callable

import msgspec
import pytest

from infra.leaks.plant import suspend
from infra.local.stack import Stack
from shared.kernel import db
from shared.moderation import actions as moderation
from shared.profiles import reads as profiles
from tests.client import Person, sign_in, wait_until


class CountRow(msgspec.Struct, frozen=True):
    count: int


STANDING = db.Statement(
    """SELECT count(a.act_id) FROM notifications n JOIN notification_actors a ON a.notification_id = n.id
        WHERE n.user_id = :user_id AND a.actor_id = :actor_id""",
    CountRow,
)


def standing(actor: int, owner: int) -> int:
    """How much of what one did the other is told of."""
    with db.connection() as conn:
        return STANDING.one(conn, user_id=owner, actor_id=actor).count


def followers_told_of(owner: Person) -> list[tuple[int, set[str]]]:
    groups = [group for group in owner.get("/v1/notifications")["items"] if group["type"] == "follow"]
    return [(group["actor_count"], {actor["username"] for actor in group["actors"]}) for group in groups]


def test_others_lists_are_as_they_should_be_after_a_suspension_and_its_end(
    stack: Stack, alice: Person, bob: Person, person: Callable[[], Person]
) -> None:
    lonely, carol = person(), person()
    both = [(2, {bob.username, carol.username})]
    with alice.live() as live, lonely.live() as left:
        for follower, followed in ((bob, alice), (carol, alice), (bob, lonely)):
            follower.follow(followed.username)
        wait_until(lambda: followers_told_of(alice) == both and followers_told_of(lonely) == [(1, {bob.username})])
        # The second is told a while after the first: not among what comes after.
        wait_until(lambda: [event for event in live.drain() if event["data"]["actor_count"] == 2])
        left.event("notification.created")
        live.events.clear()
        left.events.clear()
        suspend(stack, bob)
        wait_until(lambda: followers_told_of(alice) == [(1, {carol.username})])
        assert followers_told_of(lonely) == []
        left.event("notification.revoked")
        assert live.event("notification.created")["data"]["actor_count"] == 1
        # Read, so that Redis holds it without them.
        assert lonely.get("/v1/notifications")["items"] == []
        assert moderation.unsuspend(bob.username)
        wait_until(lambda: followers_told_of(alice) == both)
        wait_until(lambda: followers_told_of(lonely) == [(1, {bob.username})])
        assert [event["event"] for event in live.drain()] == ["notification.created"]
        assert [event["event"] for event in left.drain()] == ["notification.revoked"]


@pytest.mark.parametrize("how", ["edited", "deleted"])
def test_a_mention_of_somebody_suspended_is_taken_back_for_when_they_are_there(
    stack: Stack, alice: Person, bob: Person, person: Callable[[], Person], how: str
) -> None:
    carol, post = person(), alice.post_photo()["id"]
    comment = bob.post(f"/v1/posts/{post}/comments", {"text": f"You, @{carol.username}"})["id"]
    wait_until(lambda: carol.get("/v1/notifications")["items"])
    found = profiles.named([bob.username, carol.username])
    suspend(stack, carol)
    if how == "edited":
        bob.patch(f"/v1/comments/{comment}", {"text": "Nobody"})
    else:
        bob.delete(f"/v1/comments/{comment}")
    wait_until(lambda: standing(found[bob.username], found[carol.username]) == 0)
    assert moderation.unsuspend(carol.username)
    back = sign_in(stack, carol.username)
    assert back.get("/v1/notifications")["items"] == []
    assert back.get("/v1/me")["unread"]["notifications"] == 0
