"""What somebody did who is suspended is told to nobody meanwhile, and is there again when they are."""

from collections.abc import Callable

from infra.leaks.plant import suspend
from infra.local.stack import Stack
from shared.moderation import actions as moderation
from tests.client import Person, wait_until


def followers_told_of(owner: Person) -> list[tuple[int, set[str]]]:
    groups = [group for group in owner.get("/v1/notifications")["items"] if group["type"] == "follow"]
    return [(group["actor_count"], {actor["username"] for actor in group["actors"]}) for group in groups]


def test_others_lists_are_as_they_should_be_after_a_suspension_and_its_end(
    stack: Stack, alice: Person, bob: Person, person: Callable[[], Person]
) -> None:
    lonely, carol = person(), person()
    for follower, followed in ((bob, alice), (carol, alice), (bob, lonely)):
        follower.follow(followed.username)
    both = [(2, {bob.username, carol.username})]
    wait_until(lambda: followers_told_of(alice) == both and followers_told_of(lonely) == [(1, {bob.username})])
    with alice.live() as live, lonely.live() as left:
        suspend(stack, bob)
        wait_until(lambda: followers_told_of(alice) == [(1, {carol.username})])
        assert followers_told_of(lonely) == []
        left.event("notification.revoked")
        # Read, so that Redis holds it without them.
        assert lonely.get("/v1/notifications")["items"] == []
        assert moderation.unsuspend(bob.username)
        wait_until(lambda: followers_told_of(alice) == both)
        wait_until(lambda: followers_told_of(lonely) == [(1, {bob.username})])
        assert live.drain() == []
        assert [event["event"] for event in left.drain()] == ["notification.revoked"]
