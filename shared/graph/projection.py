"""Users and follows in the graph: (:User {id, username})-[:FOLLOWS {version}]->(:User).

What is written is what Postgres says by now. Two that project one follow at once could leave the older state behind,
so each looks again after it wrote, and writes again if Postgres has moved on: whoever writes last looks last.
"""

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from functools import cache
from typing import Final

import msgspec

from shared.kernel import graph
from shared.profiles import reads as profiles
from shared.profiles.reads import FollowState, UserState

_CONSTRAINT: Final = "CREATE CONSTRAINT user_id IF NOT EXISTS FOR (u:User) REQUIRE u.id IS UNIQUE"
_USERS: Final = "UNWIND $users AS row MERGE (u:User {id: row.id}) SET u.username = row.username"
_GONE: Final = "UNWIND $ids AS id MATCH (u:User {id: id}) DETACH DELETE u"
_FOLLOWS: Final = """
UNWIND $follows AS row
MERGE (a:User {id: row.follower_id}) MERGE (b:User {id: row.followee_id})
MERGE (a)-[f:FOLLOWS]->(b) SET f.version = row.version
"""
_UNFOLLOWS: Final = """
UNWIND $follows AS row
MATCH (a:User {id: row.follower_id})-[f:FOLLOWS]->(b:User {id: row.followee_id}) DELETE f
"""

Pair = tuple[int, int]


class _Batch:
    """What is asked for while a write is under way, to be written together next."""

    def __init__(self) -> None:
        self.users: set[int] = set()
        self.pairs: set[Pair] = set()
        self.done: Future[None] = Future()


_lock: Final = threading.Lock()
_writing: Final = threading.Lock()
_next: _Batch = _Batch()


def project(users: Iterable[int] = (), pairs: Iterable[Pair] = ()) -> None:
    """Bring users and follows, as (follower, followee), up to date, with all that is asked for meanwhile in one batch.

    Raises GraphUnavailable, DatabaseUnavailable.
    """
    global _next
    with _lock:
        batch = _next
        batch.users.update(users)
        batch.pairs.update(pairs)
    with _writing:
        with _lock:
            mine = batch is _next
            if mine:
                _next = _Batch()
        if mine:
            _write(batch)
    batch.done.result()


def _write(batch: _Batch) -> None:
    try:
        _prepare()
        _write_users(sorted(batch.users))
        _write_follows(sorted(batch.pairs))
    except BaseException as fault:
        batch.done.set_exception(fault)
    else:
        batch.done.set_result(None)


@cache
def _prepare() -> None:
    graph.write(_CONSTRAINT)


def _write_users(user_ids: Sequence[int]) -> None:
    if not user_ids:
        return
    seen: list[UserState] = []
    while (found := profiles.states_of(user_ids)) != seen:
        live = [msgspec.structs.asdict(user) for user in found if user.active]
        gone = [user.id for user in found if not user.active]
        if live:
            graph.write(_USERS, users=live)
        if gone:
            graph.write(_GONE, ids=gone)
        seen = found


def _write_follows(pairs: Sequence[Pair]) -> None:
    if not pairs:
        return
    seen: list[FollowState] = []
    while (found := profiles.follows_among(pairs)) != seen:
        live = [msgspec.structs.asdict(follow) for follow in found if follow.following]
        over = [msgspec.structs.asdict(follow) for follow in found if not follow.following]
        if live:
            graph.write(_FOLLOWS, follows=live)
        if over:
            graph.write(_UNFOLLOWS, follows=over)
        seen = found
