"""A running local stack, for whoever uses it: its addresses, its environment, and a throwaway one for tests."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STOP_SECONDS = 60.0


class StackFailed(Exception):
    """The stack did not start; the text is what it said."""


@dataclass(frozen=True)
class Stack:
    """Where each part of a running stack answers. Addresses of parts that were left out are empty."""

    data: Path
    api: str
    live: str
    console: str
    postgres: str
    redis: str
    neo4j: str
    storage: str
    pubsub: str
    smtp: str
    pids: dict[str, int]
    env: dict[str, str]
    """The settings that the stack's own processes run with."""

    def reread(self) -> "Stack":
        """The same stack now: processes that were restarted have new pids."""
        return load(self.data)

    def apply(self) -> None:
        """Make this process one that uses the stack: put its settings into the environment."""
        os.environ.update(self.env)


def load(path: str | os.PathLike[str] = ROOT / ".local") -> Stack:
    """The stack whose data folder, or `stack.json` in it, is `path`. Raises StackFailed if none has started there."""
    place = Path(path)
    data = place.parent if place.name == "stack.json" else place
    try:
        addresses = json.loads((data / "stack.json").read_text())
        env = json.loads((data / "env.json").read_text())
    except FileNotFoundError:
        raise StackFailed(f"no stack has started in {data}; start one with ./dev up") from None
    names = ("api", "live", "console", "postgres", "redis", "neo4j", "storage", "pubsub", "smtp")
    return Stack(data=data, pids=addresses["pids"], env=env, **{name: addresses.get(name, "") for name in names})


@contextmanager
def ephemeral(only: Sequence[str] = (), arguments: Sequence[str] = ()) -> Iterator[Stack]:
    """A throwaway stack on free ports, stopped and deleted at the end. `only`: these parts and what they need.

    Raises StackFailed with what it said if it doesn't start.
    """
    command = [sys.executable, "-m", "infra.local.cli", "up", "--ephemeral", *arguments]
    if only:
        command += ["--only", ",".join(only)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield load(_ready_stack(process))
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise


def _ready_stack(process: subprocess.Popen[str]) -> str:
    said: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        if line.startswith("ready "):
            return dict(word.split("=", 1) for word in line.split()[1:])["stack"]
    raise StackFailed("".join(said))
