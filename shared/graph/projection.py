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

_USERS_AFTER: Final = "MATCH (u:User) WHERE u.id > $after RETURN u.id AS id ORDER BY u.id LIMIT $limit"
_USERS_AMONG: Final = "UNWIND $ids AS id MATCH (u:User {id: id}) RETURN u.id AS id, u.username AS username"
_FOLLOWS_OF: Final = """
UNWIND $ids AS id MATCH (a:User {id: id})-[:FOLLOWS]->(b:User) RETURN a.id AS follower_id, b.id AS followee_id
"""
_FOLLOWS_AMONG: Final = """
UNWIND $follows AS row
MATCH (a:User {id: row.follower_id})-[:FOLLOWS]->(b:User {id: row.followee_id})
RETURN a.id AS follower_id, b.id AS followee_id
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
    seen: list[UserState] | None = None
    while (found := profiles.states_of(user_ids)) != seen:
        live = [msgspec.structs.asdict(user) for user in found if user.active]
        # Also one whom Postgres has erased.
        gone = sorted({*user_ids} - {user.id for user in found if user.active})
        if live:
            graph.write(_USERS, users=live)
        if gone:
            graph.write(_GONE, ids=gone)
        seen = found


def _write_follows(pairs: Sequence[Pair]) -> None:
    if not pairs:
        return
    seen: list[FollowState] | None = None
    while (found := profiles.follows_among(pairs)) != seen:
        live = [msgspec.structs.asdict(follow) for follow in found if follow.following]
        following = {(follow.follower_id, follow.followee_id) for follow in found if follow.following}
        over = [{"follower_id": one, "followee_id": other} for one, other in pairs if (one, other) not in following]
        if live:
            graph.write(_FOLLOWS, follows=live)
        if over:
            graph.write(_UNFOLLOWS, follows=over)
        seen = found


def ids_after(after: int, limit: int) -> list[int]:
    """The ids of users in the graph past `after`, in order: for going through all of them. Raises GraphUnavailable."""
    return [row["id"] for row in graph.read(_USERS_AFTER, after=after, limit=limit)]


def usernames_of(user_ids: Iterable[int]) -> dict[int, str | None]:
    """The usernames in the graph of those who are there. Raises GraphUnavailable."""
    return {row["id"]: row["username"] for row in graph.read(_USERS_AMONG, ids=list(user_ids))}


def follows_of(user_ids: Iterable[int]) -> list[Pair]:
    """The follows in the graph of these followers, as (follower, followee). Raises GraphUnavailable."""
    rows = graph.read(_FOLLOWS_OF, ids=list(user_ids))
    return [(row["follower_id"], row["followee_id"]) for row in rows]


def follows_among(pairs: Iterable[Pair]) -> set[Pair]:
    """Those of these follows that are in the graph. Raises GraphUnavailable."""
    wanted = [{"follower_id": one, "followee_id": other} for one, other in pairs]
    return {(row["follower_id"], row["followee_id"]) for row in graph.read(_FOLLOWS_AMONG, follows=wanted)}
