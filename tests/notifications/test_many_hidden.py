"""However much a suspension or a deletion hides, each event looks at a batch of it, and leaves the rest to one more."""

from collections.abc import Callable, Iterator

import msgspec
import pytest

from infra.local.stack import Stack
from shared.kernel import clock, db, ids
from shared.notifications import actions
from shared.notifications.model import Act, ActsHidden, NotificationChanged, SubjectsHidden
from shared.posts.model import PostDeleted
from shared.profiles import reads as profiles
from shared.profiles.model import UserChanged
from tests.client import Person, standing_still
from tests.profiles.people import insert_users

FEW = 3
TIMES = 3


class EventRow(msgspec.Struct, frozen=True):
    topic: str
    payload: bytes


TAKE = db.Statement(
    """DELETE FROM outbox WHERE topic IN ('acts_hidden', 'subjects_hidden', 'notification_changed')
       RETURNING topic, payload""",
    EventRow,
)
# A thread as deep as it has comments: each replies to the one before it.
SAY = db.Statement(
    """INSERT INTO comments (id, post_id, post_author_id, parent_id, author_id, text, created_at)
       SELECT id, :post_id, :owner, lag(id) OVER (ORDER BY id), :author, 'More', :now
         FROM unnest(CAST(:ids AS bigint[])) AS said (id)"""
)
Changed = UserChanged | PostDeleted


@pytest.fixture(autouse=True)
def a_few_at_a_time(stack: Stack, alice: Person, bob: Person, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(actions, "BATCH", FEW)
    with standing_still(stack, "background", "relay"):
        yield


def taken() -> tuple[list[ActsHidden | SubjectsHidden], list[int]]:
    """What is left to other events, and the users whose groups are to be looked at; taken as the relay would."""
    with db.connection() as conn:
        rows = TAKE.all(conn)
    rest: list[ActsHidden | SubjectsHidden] = []
    looked_at: list[int] = []
    for row in rows:
        if row.topic == NotificationChanged.topic:
            looked_at.append(msgspec.json.decode(row.payload, type=NotificationChanged).user_id)
        else:
            kind = ActsHidden if row.topic == ActsHidden.topic else SubjectsHidden
            rest.append(msgspec.json.decode(row.payload, type=kind))
    return rest, looked_at


def look(event: ActsHidden | SubjectsHidden) -> None:
    if isinstance(event, ActsHidden):
        actions.look_by(event)
    else:
        actions.look_below(event)


def looked_at_in_the_end(begin: Callable[[], None], most: int) -> list[int]:
    """The users whose groups were looked at, though each event comes again and again; none looks at more than a few."""
    begin()
    under_way, users = taken()
    assert len(users) <= most
    while under_way:
        assert len(under_way) <= 2
        event = under_way.pop()
        for time in range(TIMES):
            look(event)
            more, found = taken()
            assert len(found) <= most
            if time == 0:
                under_way += more
                users += found
            else:
                assert more == []
    return sorted(users)


def tell(acts: list[Act]) -> None:
    actions.apply(acts)
    taken()


def test_all_that_somebody_did_is_looked_at(alice: Person) -> None:
    actor, told = profiles.named([alice.username])[alice.username], insert_users(3 * FEW + 1)
    tell([Act(one, "follow", f"user:{one}", actor, ids.new_id(), 1) for one in told])
    event = UserChanged(actor, came_or_went=True)
    assert looked_at_in_the_end(lambda: actions.of_user(event), FEW) == sorted(told)


@pytest.mark.parametrize("how", ["the post is deleted", "its author is suspended"])
def test_all_that_was_said_below_is_looked_at_also_in_one_thread(alice: Person, bob: Person, how: str) -> None:
    found = profiles.named([alice.username, bob.username])
    owner, reader = found[alice.username], found[bob.username]
    (third,) = insert_users(1)
    posts = [ids.decode(alice.post_photo()["id"]) for _ in range(2)]
    said = [(post_id, [ids.new_id() for _ in range(2 * FEW + 1)]) for post_id in posts]
    with db.connection() as conn:
        for post_id, comment_ids in said:
            SAY.run(conn, post_id=post_id, owner=owner, author=reader, now=clock.now_ms(), ids=comment_ids)
    tell(
        [
            Act(reader, kind, f"comment:{ids.encode(comment_id)}", third, ids.new_id(), 1)
            for _, comment_ids in said
            for comment_id in comment_ids
            for kind in ("reply", "reaction")
        ]
    )
    deleted = PostDeleted(posts[0], owner)
    suspended = UserChanged(owner, came_or_went=True)
    users = looked_at_in_the_end(
        lambda: actions.of_post(deleted) if how == "the post is deleted" else actions.of_user(suspended), 2 * FEW
    )
    each = 2 * (2 * FEW + 1)
    assert users == [reader] * (each if how == "the post is deleted" else 2 * each)
