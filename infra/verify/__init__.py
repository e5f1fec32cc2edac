"""`./dev verify`: compares what is projected with Postgres, and says where they differ; `--repair` mends it."""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from infra.local import stack as stacks
from infra.local.stack import StackFailed
from infra.verify.scan import Difference, Found, repair, verify
from shared.kernel import cache
from shared.kernel.problems import Unavailable

PATIENCE_SECONDS = 2.0
COLUMNS = (
    TextColumn("{task.description:<14}"),
    BarColumn(40),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
)


def main(arguments: list[str]) -> int:
    """Compare, and mend if asked to. 0: no difference, or none that is left; 1: there are; 2: a store is away."""
    parser = argparse.ArgumentParser(prog="./dev verify", description="Compare the projections with Postgres.")
    parser.add_argument("--repair", action="store_true", help="bring what differs up to date")
    place = os.environ.get("STACK", stacks.ROOT / ".local")
    parser.add_argument("--data", type=Path, default=place, metavar="DIR", help="the stack's data folder (.local)")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    try:
        stacks.load(options.data).apply()
        found = _verified(console)
        if options.repair and found.differences:
            for kind, done in repair(found.differences).items():
                console.print(f"{kind}: {sum(one.kind == kind for one in found.differences)} {done}", markup=False)
            found = _verified(console)
    except StackFailed as fault:
        return _fail(str(fault))
    except Unavailable as fault:
        return _fail(f"{fault.detail} Nothing is known of the rest.")
    return int(bool(found.differences))


def _fail(reason: str) -> int:
    print(f"./dev verify: {reason}", file=sys.stderr)
    return 2


def _verified(console: Console) -> Found:
    with _bar(console) as told:
        found = verify(told)
    _show(found, console)
    return found


@contextmanager
def _bar(console: Console) -> "Iterator[_Bar]":
    bar = _Bar(console)
    try:
        yield bar
    finally:
        bar.progress.stop()


class _Bar:
    """A bar that comes when it has taken two seconds: how many keys of how many."""

    def __init__(self, console: Console) -> None:
        self.progress = Progress(*COLUMNS, console=console, transient=True)
        self.task = self.progress.add_task("", total=int(cache.run_sync(("DBSIZE",))[0]))
        self.from_then = time.monotonic() + PATIENCE_SECONDS

    def __call__(self, kind: str, count: int) -> None:
        """So many of a kind were compared."""
        self.progress.update(self.task, description=kind, advance=count)
        if time.monotonic() > self.from_then:
            self.progress.start()


def _show(found: Found, console: Console) -> None:
    table = Table("kind", "compared", "differ", box=None, pad_edge=False, header_style="bold")
    for kind, count in sorted(found.compared.items()):
        differ = sum(one.kind == kind for one in found.differences)
        table.add_row(kind, f"{count:,}", f"{differ:,}", style="bold red" if differ else "")
    console.print(table)
    for one in found.differences:
        console.print(said(one), markup=False, soft_wrap=True)


def said(one: Difference) -> str:
    """A difference, on a line."""
    return f"{one.kind} {one.key}: there is {one.has}; Postgres says {one.says}"
