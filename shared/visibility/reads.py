"""How a viewer stands to others: asked of one map a viewer in Redis, loaded whole from Postgres on a miss.

The map `relations:{viewer}` has a field an other for the viewer's own row (flags f, b, m), one with "!" before it for
a block against the viewer, and "~" once it is complete. `ask` makes the command, so that it shares a trip with others.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from shared.kernel import cache, db, ids, running, single_flight
from shared.kernel.projection import field_of, put_fields
from shared.visibility import followed_by, store
from shared.visibility.model import STRANGERS, Relation

_COMPLETE: Final = "~"


def _key(viewer_id: int) -> str:
    return f"relations:{ids.encode(viewer_id)}"


def ask(viewer_id: int, others: Sequence[int]) -> cache.Command:
    """The command for `take`."""
    fields: list[str] = [_COMPLETE]
    for other in others:
        name = ids.encode(other)
        fields += (name, "!" + name)
    return ("HMGET", _key(viewer_id), *fields)


async def take(viewer_id: int, others: Sequence[int], reply: Any) -> dict[int, Relation]:
    """The relations in the reply to `ask`; of Postgres where Redis has no complete map."""
    if reply[0] is None:
        return await load(viewer_id, others)
    return _of_map(others, reply)


def _of_map(others: Sequence[int], reply: Any) -> dict[int, Relation]:
    relations: dict[int, Relation] = {}
    for index, other in enumerate(others):
        own, inbound = reply[2 * index + 1], reply[2 * index + 2]
        if own is None and inbound is None:
            relations[other] = STRANGERS
            continue
        flags = field_of(own) or b""
        relations[other] = Relation(
            following=b"f" in flags, blocking=b"b" in flags, muting=b"m" in flags, blocked_by=bool(field_of(inbound))
        )
    return relations


async def load(viewer_id: int, others: Sequence[int]) -> dict[int, Relation]:
    """The relations of Postgres, with the viewer's whole map put in Redis."""
    rows = await single_flight.shared(_key(viewer_id), lambda: _load_map(viewer_id))
    try:
        # Of Redis, which has what was changed while the map was loaded.
        (reply,) = await cache.run(ask(viewer_id, others))
    except cache.CacheUnavailable:
        return _relations(rows, others)
    return _relations(rows, others) if reply[0] is None else _of_map(others, reply)


async def _load_map(viewer_id: int) -> list[store.RelationRow]:
    rows = await running.on_loop(_rows_of_viewer, viewer_id)
    try:
        await cache.run(put_fields(_key(viewer_id), [*_fields(rows), (_COMPLETE, 0, b"")]))
    except cache.CacheUnavailable:
        pass  # the answer is at hand; the map is filled by a later read
    return rows


def fields_of(viewer_id: int) -> dict[str, tuple[int, bytes]]:
    """The fields of a viewer's map, each with its version and flags, of Postgres."""
    return {name: (version, body) for name, version, body in _fields(_rows_of_viewer(viewer_id))}


def between(viewer_id: int, others: Sequence[int]) -> dict[int, Relation]:
    """The relations of Postgres, for actions and background functions."""
    with db.connection() as conn:
        return _relations(store.BETWEEN.all(conn, viewer=viewer_id, others=list(others)), others)


def towards(other_id: int, viewers: Sequence[int]) -> dict[int, Relation]:
    """How each of `viewers` stands to one user, of Postgres."""
    with db.connection() as conn:
        return _relations(store.TOWARDS.all(conn, other=other_id, viewers=list(viewers)), viewers)


def among(pairs: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Relation]:
    """How the first of each pair stands to the second, of Postgres."""
    if not pairs:
        return {}
    with db.connection() as conn:
        rows = store.AMONG.all(conn, viewers=[viewer for viewer, _ in pairs], others=[other for _, other in pairs])
    return {
        (row.viewer_id, row.other_id): Relation(row.following, row.blocking, row.muting, row.blocked_by) for row in rows
    }


def changed(user_id: int, other_id: int, flags: bytes, version: int) -> list[cache.Command]:
    """The commands that project the row of (user, other): into the user's map, and a block into the other's.

    The other's map hears of blocks alone: each follower in it would make it grow without end; so whom the other asked
    about is kept apart. Who ends a block runs `block_changed` as well.
    """
    commands = [
        put_fields(_key(user_id), [(ids.encode(other_id), version, flags)]),
        followed_by.changed(user_id, other_id, version, following=b"f" in flags),
    ]
    if b"b" in flags:
        commands.append(block_changed(user_id, other_id, version, blocking=True))
    return commands


def block_changed(user_id: int, other_id: int, version: int, *, blocking: bool) -> cache.Command:
    """The command that tells the map of `other_id` that `user_id` blocks them, or does so no more."""
    return put_fields(_key(other_id), [("!" + ids.encode(user_id), version, b"b" if blocking else b"")])


def flags(*, following: bool, blocking: bool, muting: bool) -> bytes:
    """A row's flags as the map holds them."""
    return (b"f" if following else b"") + (b"b" if blocking else b"") + (b"m" if muting else b"")


def _rows_of_viewer(viewer_id: int) -> list[store.RelationRow]:
    with db.connection() as conn:
        return store.OF_VIEWER.all(conn, viewer=viewer_id)


def _fields(rows: Iterable[store.RelationRow]) -> list[tuple[str, int, bytes]]:
    return [
        (
            ("" if row.outbound else "!") + ids.encode(row.other_id),
            row.version,
            flags(following=row.following, blocking=row.blocking, muting=row.muting),
        )
        for row in rows
    ]


def _relations(rows: Sequence[store.RelationRow], others: Iterable[int]) -> dict[int, Relation]:
    own = {row.other_id: row for row in rows if row.outbound}
    blocked_by = {row.other_id for row in rows if not row.outbound and row.blocking}
    relations: dict[int, Relation] = {}
    for other in others:
        row = own.get(other)
        relations[other] = Relation(
            following=row is not None and row.following,
            blocking=row is not None and row.blocking,
            muting=row is not None and row.muting,
            blocked_by=other in blocked_by,
        )
    return relations
