"""What a process of the local stack is: its command, what it needs, how to see that it answers, how it is stopped."""

import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from infra.local.ports import LOOPBACK

PROBE_SECONDS = 3.0


class NotReady(Exception):
    """A process that does not answer yet; the text says what it lacks."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """One process of the stack, or with `once` a step that runs to its end when what it needs is there.

    A step without a command is its `prepare` alone.
    """

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict[str, str])
    once: bool = False
    prepare: Callable[[], None] = lambda: None
    """Runs in a thread before each start of the process."""
    ready: Callable[[], None] = lambda: None
    """Runs in a thread; raises NotReady until the process answers."""
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 10.0
    start_seconds: float = 60.0
    refuses_root: bool = False
    """Whether it refuses to run as root."""
    watches: tuple[str, ...] = ()
    """Files and folders of the repository: a change in them restarts the process."""
    ports: tuple[int, ...] = ()
    """Where it listens."""
    hands_over: bool = False
    """Whether the supervisor listens on its port for it and passes the socket on: then a restart refuses nobody."""


def http_ready(url: str) -> Callable[[], None]:
    """A check that `url` answers with a 2xx."""

    def check() -> None:
        try:
            answer = httpx.get(url, timeout=PROBE_SECONDS)
        except httpx.HTTPError as error:
            raise NotReady(f"{url}: {error}") from None
        if not answer.is_success:
            raise NotReady(f"{url} answers {answer.status_code}")

    return check


def port_ready(port: int) -> Callable[[], None]:
    """A check that something accepts connections on `port`."""

    def check() -> None:
        try:
            socket.create_connection((LOOPBACK, port), timeout=PROBE_SECONDS).close()
        except OSError as error:
            raise NotReady(f"port {port}: {error.strerror or error}") from None

    return check
