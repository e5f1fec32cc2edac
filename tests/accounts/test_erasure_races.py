"""What is erased while others change the same comes out as if one had been after the other."""

from collections.abc import Callable

import msgspec

from shared.comments import store as comments
from shared.kernel import clock, db, ids
from shared.profiles import reads as profiles
from tests.client import PASSWORD, Person, wait_until
from tests.comments.thread import comment, delete, reply
from tests.comments.thread import comments as listed


class Count(msgspec.Struct, frozen=True):
    count: int


WAITING = db.Statement("SELECT count(*) FROM pg_locks WHERE NOT granted", Count)


def somebody_waits() -> bool:
    with db.connection() as conn:
        return WAITING.one(conn).count > 0


def test_a_tombstone_goes_with_the_last_two_replies_deleted_at_once(
    alice: Person, bob: Person, person: Callable[[], Person]
) -> None:
    leaver = person()
    post = alice.post_photo("Below it")
    top = comment(alice, post)
    below = reply(alice, top)
    reply(leaver, below)
    last = reply(bob, below)
    for made in (top, below):
        delete(alice, made)
    assert len(listed(alice, post)) == 1
    bob_id = profiles.named([bob.username])[bob.username]
    with db.transaction() as conn:
        comments.LOCK_DELETIONS.run(conn, id=ids.decode(last["id"]))
        comments.DELETE.one(conn, id=ids.decode(last["id"]), user_id=bob_id, now=clock.now_ms(), trace=None)
        assert leaver.ask("DELETE", "/v1/me", {"password": PASSWORD}).status_code == 204
        wait_until(somebody_waits)
    wait_until(lambda: listed(alice, post) == [])
