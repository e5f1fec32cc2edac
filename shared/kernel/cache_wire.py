"""What both Redis clients share: where Redis is and how to sign in, commands, scripts, and what refusals mean."""

import hashlib
import socket
import ssl
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final, NamedTuple, cast
from urllib.parse import parse_qs, unquote, urlsplit

import hiredis

from shared.kernel.problems import Unavailable

Command = tuple[str | bytes | int, ...]

# A command as it goes on the wire. Raises TypeError for a part that is no str, bytes or int.
pack: Final[Callable[[Command], bytes]] = cast("Any", hiredis).pack_command

CONNECT_SECONDS: Final = 1.0
_NOSCRIPT: Final = "NOSCRIPT"
# Refusals that pass by themselves: starting, failing over, out of memory or disk, a script that runs long.
_PASSING: Final = (
    "BUSY",
    "CLUSTERDOWN",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "NOREPLICAS",
    "OOM",
    "READONLY",
    "TRYAGAIN",
)
# A dead network is noticed within a minute: first probe after 30 s of silence, three of them 10 s apart.
_SOCKET_OPTIONS: Final = (("TCP_NODELAY", 1), ("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))


class CacheUnavailable(Unavailable):
    """503: Redis can't be reached, or doesn't answer in time. Reads go on without it."""

    def __init__(self) -> None:
        super().__init__("redis")


class ReplyError(Exception):
    """Redis refused a command: a fault of ours."""


_scripts: dict[str, str] = {}


class Script:
    """A Lua script, called by its digest and loaded when Redis doesn't know it."""

    def __init__(self, lua: str):
        self.digest = hashlib.sha1(lua.encode(), usedforsecurity=False).hexdigest()
        _scripts[self.digest] = lua

    def command(self, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Command:
        """The command that runs it."""
        return ("EVALSHA", self.digest, len(keys), *keys, *args)


class Address(NamedTuple):
    """Where Redis listens, and the commands that sign in."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    hello: tuple[Command, ...]


@cache
def address(url: str) -> Address:
    """What REDIS_URL says: redis:// or, with TLS, rediss://, with `?ssl_ca_certs=` for a private authority's file."""
    parts = urlsplit(url)
    hello: list[Command] = []
    if parts.password:
        hello.append(("AUTH", unquote(parts.username or "default"), unquote(parts.password)))
    if parts.path.strip("/"):
        hello.append(("SELECT", parts.path.strip("/")))
    # A question at least: an address may accept connections with nobody behind it, or ask for a password.
    hello.append(("PING",))
    tls = None
    if parts.scheme == "rediss":
        tls = ssl.create_default_context(cafile=parse_qs(parts.query).get("ssl_ca_certs", [None])[-1])
    return Address(parts.hostname or "127.0.0.1", parts.port or 6379, tls, tuple(hello))


class SignInRefused(ConnectionError):
    """Redis doesn't let us in, or not yet; the text is its reason."""


def check_hello(replies: Sequence[Any]) -> None:
    """Raise SignInRefused unless all of `Address.hello` was taken."""
    for reply in replies:
        if isinstance(reply, hiredis.ReplyError):
            raise SignInRefused(str(reply))


def tune(sock: Any) -> None:
    """Send at once, and notice a peer that has gone silently."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _SOCKET_OPTIONS:
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def unknown_scripts(replies: Sequence[Any]) -> list[int]:
    """Where in `replies` a script was unknown. Raises CacheUnavailable or ReplyError for any other refusal."""
    unknown: list[int] = []
    for index, reply in enumerate(replies):
        if isinstance(reply, hiredis.ReplyError):
            if not str(reply).startswith(_NOSCRIPT):
                raise _meaning(reply)
            unknown.append(index)
    return unknown


def with_loads(commands: Sequence[Command]) -> list[Command]:
    """`commands`, all of scripts, each after the command that loads its script."""
    return [part for command in commands for part in (("SCRIPT", "LOAD", _scripts[str(command[1])]), command)]


def _meaning(error: Exception) -> Exception:
    return CacheUnavailable() if str(error).startswith(_PASSING) else ReplyError(str(error))
