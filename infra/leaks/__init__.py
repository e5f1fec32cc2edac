"""`./dev leaks`: makes a small world on a running stack, and looks as everybody for what must not show."""

import argparse
import os
import sys
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from infra import targets
from infra.client import Refused
from infra.leaks import present, walk
from infra.leaks.surfaces import SURFACES
from infra.leaks.walk import Finding
from infra.leaks.world import World, make
from infra.local import stack as stacks
from infra.local.stack import Stack, StackFailed


def main(arguments: list[str]) -> int:
    """Look for leaks. 0: none; 1: there are, or something is missing that should show; 2: it could not be done."""
    parser = argparse.ArgumentParser(prog="./dev leaks", description="Look for what someone sees and must not.")
    place = os.environ.get("STACK", stacks.ROOT / ".local")
    parser.add_argument("--data", type=Path, default=place, metavar="DIR", help="the stack's data folder (.local)")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    targets.load()
    try:
        stack = stacks.load(options.data)
        stack.apply()
        with console.status("") as status:
            world = make(stack, lambda step: status.update(f"making the world: {step}"))
            status.update("looking")
            findings = look(world, stack)
    except (AssertionError, Refused, httpx.HTTPError, StackFailed) as fault:
        print(f"./dev leaks: {fault}", file=sys.stderr)
        return 2
    _show(world, findings, console)
    return int(bool(findings))


def look(world: World, stack: Stack) -> list[Finding]:
    """Everything that is wrong: live, on every endpoint, in counts, in who is here."""
    return [
        *walk.listen(world),
        *present.present(world),
        *walk.walk(world, stack),
        *walk.counts(world),
        *walk.between(world),
    ]


def _show(world: World, findings: list[Finding], console: Console) -> None:
    table = Table("surface", "findings", box=None, pad_edge=False, header_style="bold")
    for name in (*SURFACES, walk.LIVE, walk.COUNTS, present.PRESENCE, present.TYPING):
        count = sum(one.surface == name for one in findings)
        table.add_row(name, str(count), style="bold red" if count else "")
    console.print(table)
    for one in findings:
        console.print(f"{one.surface}: {one.who} looks at {one.subject}: {one.what}", markup=False, soft_wrap=True)
    lookers, subjects = len(world.living()) + 1, len(world.everybody)
    console.print(
        f"\n{lookers} lookers, {subjects} looked at, {len(SURFACES)} endpoints, live events, presence, typing, counts"
    )
