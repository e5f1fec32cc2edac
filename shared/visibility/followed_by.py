"""Whether others follow a viewer, asked for a page of people at a time.

Who follows someone may be millions, so `followed_by:{viewer}` has only those who were asked about: a field an other. It
is set to be unknown *before* Postgres is read, and a change is taken only by a field that is there: so what is
committed meanwhile is not missed, and nobody's map grows by being followed.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from shared.kernel import cache, db, ids, running, single_flight
from shared.kernel.projection import VERSION_DIGITS, field_of
from shared.visibility import store

_TTL_SECONDS: Final = 3600
# Whoever goes through a million followers begins anew now and then.
_MOST: Final = 10_000
_UNKNOWN: Final = b"?"

# ARGV: ttl, the most fields to keep, an unknown value, then the names of fields.
_EXPECT: Final = cache.Script("""
if redis.call('HLEN', KEYS[1]) > tonumber(ARGV[2]) then redis.call('DEL', KEYS[1]) end
for i = 4, #ARGV do redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[3]) end
if redis.call('TTL', KEYS[1]) < 0 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
""")
# ARGV: name, version and body in turn.
_UPDATE: Final = cache.Script("""
for i = 1, #ARGV, 3 do
  local old = redis.call('HGET', KEYS[1], ARGV[i])
  if old and string.sub(old, 1, 16) <= ARGV[i + 1] then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1] .. ARGV[i + 2])
  end
end
""")


class FollowedBy(msgspec.Struct, frozen=True):
    """Whether one follows, as of a version of their row."""

    following: bool
    version: int


def _key(viewer_id: int) -> str:
    return f"followed_by:{ids.encode(viewer_id)}"


def ask(viewer_id: int, others: Sequence[int]) -> cache.Command:
    """The command for `take`; `others` may not be empty."""
    return ("HMGET", _key(viewer_id), *[ids.encode(other) for other in others])


async def take(viewer_id: int, others: Sequence[int], reply: Sequence[Any]) -> set[int]:
    """Those of `others` who follow the viewer, by the reply to `ask`; of Postgres where Redis doesn't know."""
    bodies = dict(zip(others, map(field_of, reply), strict=True))
    missing = [other for other, body in bodies.items() if body is None or body == _UNKNOWN]
    found = {other for other, body in bodies.items() if body == b"f"}
    if missing:
        loaded = await single_flight.each(f"{_key(viewer_id)}", missing, lambda wanted: _load(viewer_id, wanted))
        found.update(other for other, state in loaded.items() if state.following)
    return found


async def _load(viewer_id: int, others: list[int]) -> dict[int, FollowedBy]:
    names = [ids.encode(other) for other in others]
    try:
        await cache.run(_EXPECT.command([_key(viewer_id)], [_TTL_SECONDS, _MOST, _versioned(0, _UNKNOWN), *names]))
    except cache.CacheUnavailable:
        return await running.on_loop(_of_postgres, viewer_id, others)
    found = await running.on_loop(_of_postgres, viewer_id, others)
    try:
        await cache.run(_update(viewer_id, found))
    except cache.CacheUnavailable:
        pass  # the answer is at hand; a later read fills the cache
    return found


def _of_postgres(viewer_id: int, others: list[int]) -> dict[int, FollowedBy]:
    with db.connection() as conn:
        rows = store.FOLLOWED_BY.all(conn, viewer=viewer_id, others=others)
    # Where there is no row, the first one will have a version greater than none.
    return dict.fromkeys(others, FollowedBy(False, 0)) | {
        row.user_id: FollowedBy(row.following, row.version) for row in rows
    }


def fields_of(viewer_id: int, others: list[int]) -> dict[str, tuple[int, bytes]]:
    """The fields of a viewer's map for `others`, with their versions, of Postgres."""
    states = _of_postgres(viewer_id, others)
    return {ids.encode(other): (state.version, b"f" if state.following else b"") for other, state in states.items()}


def changed(user_id: int, other_id: int, version: int, *, following: bool) -> cache.Command:
    """The command that tells `other_id` that `user_id` follows them, or does so no more, if they ever asked."""
    return _update(other_id, {user_id: FollowedBy(following, version)})


def _update(viewer_id: int, states: dict[int, FollowedBy]) -> cache.Command:
    arguments: list[str | bytes] = []
    for user_id, state in states.items():
        arguments += [ids.encode(user_id), f"{state.version:0{VERSION_DIGITS}d}", b"f" if state.following else b""]
    return _UPDATE.command([_key(viewer_id)], arguments)


def _versioned(version: int, body: bytes) -> bytes:
    return f"{version:0{VERSION_DIGITS}d}".encode() + body
