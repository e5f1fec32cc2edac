"""A running local stack, for whoever uses it: its addresses, its environment, and a throwaway one for tests."""

import json
import os
import signal
import subprocess
import sys
import threading
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
    """The stack whose data folder, or `stack.json` in it, is `path`. Raises StackFailed if none runs there."""
    place = Path(path)
    data = place.parent if place.name == "stack.json" else place
    try:
        addresses = json.loads((data / "stack.json").read_text())
        env = json.loads((data / "env.json").read_text())
    except FileNotFoundError:
        raise StackFailed(
            f"no stack runs on {data}; start one with ./dev up, or name the one that runs: "
            "--data and what its ready line has as stack="
        ) from None
    names = ("api", "live", "console", "postgres", "redis", "neo4j", "storage", "pubsub", "smtp")
    return Stack(data=data, pids=addresses["pids"], env=env, **{name: addresses.get(name, "") for name in names})


class Run:
    """A `./dev up` that this process started, and all that it says."""

    def __init__(self, arguments: Sequence[str], root: Path = ROOT) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "infra.local.cli", "up", *arguments],
            cwd=root,
            env=os.environ | {"PYTHONPATH": str(root)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: list[str] = []
        self._ended = False
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def output(self) -> str:
        """What it has said so far."""
        return "".join(self._lines)

    def said(self, text: str, seconds: float = 60.0, *, after: int = 0) -> str:
        """Wait for a line with `text` in it, past the `after` first ones. Raises StackFailed with all that was said."""
        with self._news:
            self._news.wait_for(lambda: self._ended or self._found(text, after), seconds)
            if found := self._found(text, after):
                return found
        raise StackFailed(f"./dev up did not say {text!r}, but:\n{self.output}")

    def ready(self, seconds: float = 120.0) -> Stack:
        """The stack, once it is ready. Raises StackFailed."""
        words = self.said("ready ", seconds).split()
        return load(dict(word.split("=", 1) for word in words[1:])["stack"])

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop and wait until it has. Returns its exit code. Raises subprocess.TimeoutExpired."""
        self.process.send_signal(number)
        try:
            return self.process.wait(STOP_SECONDS)
        finally:
            self.process.kill()
            self._reader.join()

    def _found(self, text: str, after: int) -> str:
        return next((line for line in self._lines[after:] if text in line), "")

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self._lines.append(line)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()


@contextmanager
def ephemeral(only: Sequence[str] = ()) -> Iterator[Stack]:
    """A throwaway stack on free ports, stopped and deleted at the end. `only`: these parts and what they need.

    Raises StackFailed with what it said if it doesn't start.
    """
    run = Run(["--ephemeral", *(["--only", ",".join(only)] if only else [])])
    try:
        yield run.ready()
    finally:
        run.stop()
