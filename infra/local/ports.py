"""Which port each part of the local stack listens on, and who holds one that is taken."""

import json
import os
import random
import socket
from collections.abc import Iterable
from pathlib import Path

import psutil

LOOPBACK = "127.0.0.1"
PREFERRED = {
    "api": 8080,
    "live": 8081,
    "background": 8082,
    "console": 4000,
    "storage": 4001,
    "smtp": 4025,
    "pubsub": 4085,
    "pubsub_http": 4086,
    "postgres": 4432,
    "valkey": 4379,
    "graph": 4687,
    "graph_http": 4680,
}
# Clients and stored URLs name these: another port would be a silent surprise.
FIXED = {"api", "live", "console", "storage"}
# Below the range that Linux and macOS take outgoing connections' ports from, so that none of those gets in between.
FREE_RANGE = range(20_000, 32_000)


class PortTaken(Exception):
    """A port that must be this one is in use; the text names it and, if that can be known, its holder."""


def is_free(port: int) -> bool:
    """Whether one can listen on `port` of the loopback address now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def holder(port: int) -> str:
    """` (held by NAME, pid N)` for whoever listens on `port`, or nothing if that can't be known."""
    try:
        for connection in psutil.net_connections("tcp"):
            local = connection.laddr
            if connection.status == psutil.CONN_LISTEN and local and local.port == port and connection.pid:
                return f" (held by {psutil.Process(connection.pid).name()}, pid {connection.pid})"
    except psutil.Error:
        pass
    return ""


def free_port(taken: Iterable[int] = ()) -> int:
    """A port that nobody listens on, and none of `taken`."""
    used = set(taken)
    for port in random.sample(FREE_RANGE, len(FREE_RANGE)):
        if port not in used and is_free(port):
            return port
    raise PortTaken(f"no free port between {FREE_RANGE.start} and {FREE_RANGE.stop}")


def check(name: str, ports: Iterable[int]) -> None:
    """Raise PortTaken if the part `name` can't listen on one of `ports`."""
    for port in ports:
        if not is_free(port):
            raise PortTaken(f"port {port} of {name} is taken{holder(port)}; stop it, or use ./dev up --ephemeral")


def choose(names: Iterable[str], remembered_in: Path, *, free: bool) -> dict[str, int]:
    """A port for each of `names`.

    `free`: any that are free. Else the preferred ones; a part whose port no client knows by heart moves to a free one
    when it is taken, and keeps that (in the file `remembered_in`) for the next start.
    """
    remembered: dict[str, int] = {}
    if not free and remembered_in.exists():
        remembered = json.loads(remembered_in.read_text())
    chosen: dict[str, int] = {}
    for name in names:
        port = 0 if free else remembered.get(name, PREFERRED[name])
        if not port or (name not in FIXED and not is_free(port)):
            port = free_port(chosen.values())
        chosen[name] = port
    if not free:
        draft = remembered_in.with_suffix(".draft")
        draft.write_text(json.dumps(remembered | chosen, indent=2))
        os.replace(draft, remembered_in)
    return chosen
