"""What is erased while others change the same comes out as if one had been after the other."""

from collections.abc import Callable

import msgspec

from shared.comments import store as comments
from shared.kernel import clock, db, ids
from shared.profiles import reads as profiles
from tests.client import PASSWORD, Person, wait_until
from tests.comments.thread import comment, delete, reply
from tests.comments.thread import comments as listed
from tests.locks import somebody_waits_for


class Id(msgspec.Struct, frozen=True):
    id: int


HOLD = db.Statement("SELECT id FROM posts WHERE id = :post_id FOR NO KEY UPDATE", Id)
FREE = db.Statement(
    "SELECT subject_id FROM engagements WHERE user_id = :user_id AND subject_id = :post_id FOR UPDATE SKIP LOCKED", Id
)


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
        wait_until(lambda: somebody_waits_for(conn))
    wait_until(lambda: listed(alice, post) == [])


def test_what_one_engaged_with_is_locked_before_the_engagement_as_by_who_reacts(
    alice: Person, person: Callable[[], Person]
) -> None:
    leaver = person()
    user_id = profiles.named([leaver.username])[leaver.username]
    post = alice.post_photo("Held")
    leaver.put(f"/v1/posts/{post['id']}/reaction", {"emoji": "👍"})
    which = {"post_id": ids.decode(post["id"])}
    with db.transaction() as conn:
        HOLD.one(conn, **which)
        assert leaver.ask("DELETE", "/v1/me", {"password": PASSWORD}).status_code == 204
        wait_until(lambda: somebody_waits_for(conn))
        assert FREE.maybe(conn, user_id=user_id, **which) is not None
    wait_until(lambda: alice.get(f"/v1/posts/{post['id']}")["counts"]["reactions"] == 0)
