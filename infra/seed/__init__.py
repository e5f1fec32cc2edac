"""`./dev seed`: fills a running stack with a world, through the API alone. Run again, it makes what is missing."""

import argparse
import os
import sys
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from infra.client import Client, Refused
from infra.local import stack as stacks
from infra.local.stack import StackFailed
from infra.seed.seeding import Seeding
from infra.seed.world import PASSWORD, World, build

MOST_USERS = 9999
COLUMNS = (
    TextColumn("{task.description:<9}"),
    BarColumn(40),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
)


def main(arguments: list[str]) -> int:
    """Seed the stack. Returns 1 if none answers, or it could not be done; 130 after Ctrl-C."""
    options = _options(arguments)
    try:
        stack = stacks.load(options.data)
        Client(stack.api, patience=0).get("/healthz")
    except StackFailed as fault:
        return _fail(str(fault))
    except httpx.HTTPError as fault:
        return _fail(f"the API of the stack on {options.data} does not answer ({fault}); start one with ./dev up")
    console = Console(highlight=False)
    world = build(options.users, options.seed)
    try:
        with Progress(*COLUMNS, console=console) as progress:
            Seeding(stack, world, progress).run()
    except KeyboardInterrupt:
        return _fail("stopped; run it again for the rest", 130)
    except (Refused, OSError, httpx.HTTPError) as fault:
        return _fail(f"{fault}; once that is mended, run it again for the rest")
    _show(world, console)
    return 0


def _fail(reason: str, code: int = 1) -> int:
    print(f"./dev seed: {reason}", file=sys.stderr)
    return code


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev seed", description="Fill a running stack with a world.")
    parser.add_argument("--users", type=int, default=200, metavar="N", help="how many accounts (200)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="another number is another world (1)")
    place = os.environ.get("STACK", stacks.ROOT / ".local")
    parser.add_argument("--data", type=Path, default=place, metavar="DIR", help="the stack's data folder (.local)")
    options = parser.parse_args(arguments)
    if not 1 <= options.users <= MOST_USERS:
        parser.exit(2, f"./dev seed: --users takes a number from 1 to {MOST_USERS:,}, not {options.users}\n")
    return options


def _show(world: World, console: Console) -> None:
    table = Table("kind", "accounts", "for example", box=None, pad_edge=False, header_style="bold")
    for kind in ("celebrity", "regular", "loner"):
        names = [one.username for one in world.residents if one.kind == kind]
        table.add_row(kind, str(len(names)), ", ".join(names[:4]))
    console.print("", table)
    console.print(f"\nThe password of each of these accounts is:  [bold]{PASSWORD}[/]")
    if world.reports:
        console.print(f"Reports wait for a moderator; make {world.residents[-1].username} one with ./dev moderator.")
