"""Edits of the source restart what runs it, and nothing else."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from watchfiles import Change, awatch

from infra.local.services import Service

DEBOUNCE_MS = 150
STEP_MS = 30
SUFFIXES = (".py", ".j2", ".sql", ".json", ".txt")


def is_source(change: Change, path: str) -> bool:
    """Whether a changed file is one that a process has loaded: not an editor's draft, not bytecode."""
    name = Path(path).name
    return name.endswith(SUFFIXES) and not name.startswith((".", "#")) and "__pycache__" not in path


def concerned(path: Path, root: Path, services: Sequence[Service]) -> set[str]:
    """The names of the services that run the file at `path`."""
    return {
        service.name
        for service in services
        if any(path == root / watched or root / watched in path.parents for watched in service.watches)
    }


def syntax_fault(path: Path) -> str:
    """What keeps the file from being compiled, on one line; nothing if it is sound, gone, or not Python."""
    if path.suffix != ".py" or not path.exists():
        return ""
    try:
        compile(path.read_bytes(), str(path), "exec")
    except (SyntaxError, ValueError) as fault:
        return str(fault)
    return ""


async def watch(
    root: Path,
    services: Sequence[Service],
    edited: Callable[[set[str]], Awaitable[None]],
    say: Callable[[str], None],
) -> None:
    """Tell `edited` whose code changed, for ever. A file that can't be compiled restarts nothing: old code goes on."""
    places = {root / watched for service in services for watched in service.watches if (root / watched).exists()}
    if not places:
        return
    async for changes in awatch(*places, watch_filter=is_source, debounce=DEBOUNCE_MS, step=STEP_MS):
        paths = sorted({Path(path) for _, path in changes})
        faults = [fault for path in paths if (fault := syntax_fault(path))]
        names: set[str] = set().union(*(concerned(path, root, services) for path in paths))
        files = ", ".join(str(path.relative_to(root)) for path in paths)
        if faults:
            say(f"{files} changed, but what ran before goes on: {'; '.join(faults)}")
        elif names:
            say(f"{files} changed: {', '.join(sorted(names))} start afresh")
            await edited(names)
