"""What a viewer's map in Redis holds, and that it converges."""

import asyncio
import itertools

import pytest

from shared.kernel import cache, ids
from shared.profiles import reads as profiles
from shared.visibility import reads as visibility
from shared.visibility.model import Relation
from tests.client import Person, wait_until


def fields_of(user_id: int) -> set[str]:
    found = cache.run_sync(("HKEYS", f"relations:{ids.encode(user_id)}"))[0]
    return {name.decode() for name in found}


def test_a_follow_leaves_no_trace_in_the_map_of_whom_it_follows(alice: Person, bob: Person) -> None:
    ids_of = profiles.named([alice.username, bob.username])
    alice_id, bob_id = ids_of[alice.username], ids_of[bob.username]
    bob.get(f"/v1/users/{alice.username}")
    before = fields_of(bob_id)
    alice.follow(bob.username)
    wait_until(lambda: bob.get("/v1/notifications")["items"])
    profiles.refresh_relationship(alice_id, bob_id)
    alice.delete(f"/v1/users/{bob.username}/follow")
    profiles.refresh_relationship(alice_id, bob_id)
    assert fields_of(bob_id) == before == {"~"}


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_blocks_and_their_end_converge_in_any_order(alice: Person, bob: Person, order: tuple[int, ...]) -> None:
    ids_of = profiles.named([alice.username, bob.username])
    alice_id, bob_id = ids_of[alice.username], ids_of[bob.username]
    bob.get(f"/v1/users/{alice.username}")
    blocked = visibility.flags(following=False, blocking=True, muting=False)
    changes = [
        visibility.changed(alice_id, bob_id, blocked, 1),
        [*visibility.changed(alice_id, bob_id, b"", 2), visibility.block_changed(alice_id, bob_id, 2, blocking=False)],
        visibility.changed(alice_id, bob_id, blocked, 3),
    ]
    for index in order:
        cache.run_sync(*changes[index])
    assert relation(bob_id, alice_id) == Relation(blocked_by=True)
    cache.run_sync(visibility.block_changed(alice_id, bob_id, 4, blocking=False))
    cache.run_sync(*changes[2])
    assert relation(bob_id, alice_id) == Relation()
    cache.run_sync(("DEL", *[f"relations:{ids.encode(user_id)}" for user_id in (alice_id, bob_id)]))


def relation(viewer_id: int, other_id: int) -> Relation:
    """How a viewer stands to another, of Redis."""

    async def taken() -> Relation:
        (reply,) = cache.run_sync(visibility.ask(viewer_id, [other_id]))
        assert reply[0] is not None
        return (await visibility.take(viewer_id, [other_id], reply))[other_id]

    return asyncio.run(taken())
