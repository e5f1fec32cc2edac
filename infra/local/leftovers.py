"""One supervisor a data folder, and nothing left of a supervisor that was killed."""

import fcntl
import json
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

import psutil

from infra.local import keys

MARK = "I9LYFE_STACK"
"""The environment variable by which a process of a stack is known: it holds the data folder."""
TERM_SECONDS = 10.0
KILL_SECONDS = 5.0
SAME_START_SECONDS = 0.02


class AlreadyRunning(Exception):
    """Another supervisor has this data folder."""


def lock(data: Path) -> TextIO:
    """Hold the data folder for as long as the returned file is open. Raises AlreadyRunning."""
    file = (data / "lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip()
        file.close()
        known = f" (pid {holder})" if holder else ""
        raise AlreadyRunning(f"a stack runs on {data} already{known}; stop it, or use ./dev up --ephemeral") from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def record(data: Path, processes: dict[str, tuple[int, float]]) -> None:
    """Write down who runs: name → pid and the instant it started."""
    keys.write_private(data / "run.json", json.dumps(processes))


def end_leftovers(data: Path) -> list[str]:
    """End what an earlier supervisor of this folder left running. Returns the names of what was ended.

    A recorded pid counts only with the start time that was recorded: a stranger who has the number now is let be.
    """
    path = data / "run.json"
    if not path.exists():
        return []
    recorded: dict[str, tuple[int, float]] = json.loads(path.read_text())
    names: list[str] = []
    found: list[psutil.Process] = []
    for name, (pid, started) in recorded.items():
        members = _group(pid, started, data)
        if members:
            names.append(name)
            found += members
    _end(found)
    path.unlink()
    return names


def _group(pid: int, started: float, data: Path) -> list[psutil.Process]:
    """The process, if it still is the recorded one, and the members of its group."""
    try:
        leader = psutil.Process(pid)
        if abs(leader.create_time() - started) > SAME_START_SECONDS:
            return []
        return [leader, *_members(pid)]
    except psutil.NoSuchProcess:
        return [member for member in _members(pid) if is_of(member, data)]


def _members(group: int) -> list[psutil.Process]:
    members: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if process.pid != group and os.getpgid(process.pid) == group:
                members.append(process)
        except (ProcessLookupError, PermissionError):
            continue
    return members


def is_of(process: psutil.Process, data: Path) -> bool:
    """Whether a process belongs to the stack of this folder: it carries its mark, or works in it.

    Postgres and Valkey write their titles over the environment that they were given; both work in their folders.
    """
    try:
        return process.environ().get(MARK) == str(data) or data in Path(process.cwd()).parents
    except psutil.Error:
        return False


def _end(processes: Iterable[psutil.Process]) -> None:
    alive = list(processes)
    for number, seconds in ((signal.SIGTERM, TERM_SECONDS), (signal.SIGKILL, KILL_SECONDS)):
        for process in alive:
            try:
                # psutil looks at the start time once more before it sends.
                process.send_signal(number if process.name() != "postgres" else _for_postgres(number))
            except psutil.NoSuchProcess:
                continue
        _, alive = psutil.wait_procs(alive, timeout=seconds)


def _for_postgres(number: signal.Signals) -> signal.Signals:
    return signal.SIGINT if number == signal.SIGTERM else number
