"""Projections in Redis converge: a value carries the version of its row, and only a newer one takes its place.

A value is 16 digits of version, then the letter of its form, then the body. A tombstone has the version alone: what it
stood for is gone, and an older fill that comes late can't bring it back. What has another form is a miss. The fields of
a map are versioned in the same way, but have no form.
"""

from collections.abc import Iterable
from typing import Final

from shared.kernel.cache import Command, Script

VERSION_DIGITS: Final = 16
# Another letter whenever a body says something else, or says it otherwise: what was kept before is not read as if it
# were of today.
FORM: Final = b"b"
KEPT_SECONDS: Final = 24 * 3600
_HEAD: Final = VERSION_DIGITS + len(FORM)

_PUT: Final = Script("""
if redis.call('GETRANGE', KEYS[1], 0, 15) <= ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2], 'EX', ARGV[3])
  return 1
end
return 0
""")
# A map of versioned values; its fields are set one by one, each only by a newer one.
_PUT_FIELDS: Final = Script("""
for i = 2, #ARGV, 3 do
  local old = redis.call('HGET', KEYS[1], ARGV[i])
  if not old or string.sub(old, 1, 16) <= ARGV[i + 1] then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1] .. ARGV[i + 2])
  end
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
""")


def put(key: str, version: int, body: bytes, ttl_seconds: int = KEPT_SECONDS) -> Command:
    """The command that sets `key`, unless something newer is there."""
    return _PUT.command([key], [f"{version:016d}", FORM + body if body else b"", ttl_seconds])


def put_fields(key: str, fields: list[tuple[str, int, bytes]], ttl_seconds: int = KEPT_SECONDS) -> Command:
    """The command that sets fields (name, version, body) of the map at `key`, each unless something newer is there."""
    arguments: list[str | bytes | int] = [ttl_seconds]
    for name, version, body in fields:
        arguments += [name, f"{version:016d}", body]
    return _PUT_FIELDS.command([key], arguments)


def values_in(commands: Iterable[Command]) -> dict[str, bytes]:
    """What these commands (`put` and SET) leave in keys that hold nothing yet: to compare what is there with."""
    values: dict[str, bytes] = {}
    for command in commands:
        if command[0] == "SET":
            values[str(command[1])] = _bytes(command[2])
        elif command[1] == _PUT.digest:
            values[str(command[3])] = _bytes(command[4]) + _bytes(command[5])
    return values


def _bytes(part: str | bytes | int) -> bytes:
    return part if isinstance(part, bytes) else str(part).encode()


def ask_beginning(key: str, length: int) -> Command:
    """The command for the first `length` bytes of a body, a reply to which `body_of` takes; empty for a miss."""
    return ("GETRANGE", key, 0, _HEAD + length - 1)


def body_of(reply: bytes | None) -> bytes | None:
    """The body of a value as read: None for a miss, empty for a tombstone."""
    if not reply:
        return None
    if len(reply) == VERSION_DIGITS:
        return b""
    return reply[_HEAD:] if reply.startswith(FORM, VERSION_DIGITS) else None


def field_of(reply: bytes | None) -> bytes | None:
    """The body of a map's field as read: None where there is none."""
    return None if reply is None else reply[VERSION_DIGITS:]


def version_of(reply: bytes | None) -> int:
    """The version of a value as read; 0 for a miss."""
    return int(reply[:VERSION_DIGITS]) if reply else 0
