"""How the supervisor starts a program so that it can't outlive it: the command line of launch.py."""

import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

LAUNCH = Path(__file__).with_name("launch.py")


def launched(command: Sequence[str], death_signal: signal.Signals, identity: str = "self") -> list[str]:
    """`command`, to be started as `identity` and sent `death_signal` when this process dies."""
    head = [sys.executable, "-I", "-S", str(LAUNCH), str(os.getpid()), str(int(death_signal)), identity]
    return [*head, *command]


@cache
def root_identity() -> str:
    """The identity for a program that refuses to run as root, and as a user of whom the system knows no name.

    Raises PermissionError if this machine allows none.
    """
    if os.geteuid() != 0 and _has_name():
        return "self"
    for identity in ("namespace", "nobody"):
        tried = launched(["/bin/sh", "-c", "id -un && test $(id -u) != 0"], signal.SIGKILL, identity)
        if subprocess.run(tried, capture_output=True, check=False).returncode == 0:
            return identity
    raise PermissionError("Postgres refuses to run as root, or as a user without a name: run ./dev as an ordinary user")


def _has_name() -> bool:
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return True
