"""Acts told to many are one batch, and batches at once don't hinder each other."""

import random
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from infra.local.stack import Stack
from shared.kernel import db, ids, ledger
from shared.notifications import actions
from shared.notifications.model import Act
from tests.profiles.people import insert_users

MENTIONED = 30
THREADS = 8


class CountRow(msgspec.Struct, frozen=True):
    user_id: int
    actor_count: int
    actors: int
    latest: bool


GROUPS = db.Statement(
    """SELECT n.user_id, n.actor_count, count(a.act_id), max(a.act_id) IS NOT DISTINCT FROM n.latest_id
         FROM notifications n JOIN notification_actors a ON a.notification_id = n.id
        WHERE n.user_id = ANY(CAST(:ids AS bigint[])) GROUP BY n.id""",
    CountRow,
)


@pytest.fixture
def crowd(stack: Stack) -> list[int]:
    return insert_users(MENTIONED)


def mentions(actor_id: int, user_ids: list[int], version: int, *, undone: bool = False) -> list[Act]:
    act_id = None if undone else ids.new_id()
    return [Act(user_id, "mention", "post:AAAAAAAAAAA", actor_id, act_id, version) for user_id in user_ids]


def test_thirty_mentions_cost_the_trips_of_one(crowd: list[int]) -> None:
    author, *mentioned = crowd
    trips = ledger.open_ledger()
    actions.apply(mentions(author, crowd, 1))
    # Relations; lock, acts, counts with their events, commit.
    assert (trips["postgres"].trips, trips["redis"].trips) == (5, 1)
    with db.connection() as conn:
        found = GROUPS.all(conn, ids=crowd)
    assert sorted(row.user_id for row in found) == sorted(mentioned)


def test_batches_at_once_in_any_order_end_as_counted(crowd: list[int]) -> None:
    actors, mentioned = crowd[:THREADS], crowd[THREADS:]
    dice = random.Random(3)

    def shuffled(acts: list[Act]) -> list[Act]:
        return dice.sample(acts, len(acts))

    batches = [
        shuffled(mentions(actor, mentioned, version, undone=version % 2 == 0))
        for actor in actors
        for version in range(1, 3 + actors.index(actor) % 2)
    ]
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(actions.apply, shuffled_batches(dice, batches)))
    with db.connection() as conn:
        found = GROUPS.all(conn, ids=mentioned)
    # Every second actor did it again, after it was undone.
    assert {(row.actor_count, row.actors, row.latest) for row in found} == {(THREADS // 2, THREADS // 2, True)}
    assert len(found) == len(mentioned)


def test_one_batch_may_hold_an_act_and_its_undoing(crowd: list[int]) -> None:
    author, *mentioned = crowd
    actions.apply([*mentions(author, mentioned, 2, undone=True), *mentions(author, mentioned, 1)])
    with db.connection() as conn:
        assert {(row.actor_count, row.actors, row.latest) for row in GROUPS.all(conn, ids=mentioned)} == {(0, 0, True)}


def shuffled_batches(dice: random.Random, batches: list[list[Act]]) -> list[list[Act]]:
    twice = batches * 2
    dice.shuffle(twice)
    return twice
