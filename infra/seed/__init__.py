"""`./dev seed`: fills a running stack with a world, through the API alone. Run again, it makes what is missing."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from infra.local import stack as stacks
from infra.local.stack import Stack, StackFailed
from infra.photos import make_photo
from infra.seed.world import PASSWORD, PlannedPost, Resident, World, build
from tests.client import Person, Visitor, sign_in, sign_up

T = TypeVar("T")
THREADS = 8
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
        Visitor(stack.api).get("/healthz")
    except StackFailed as fault:
        return _fail(str(fault))
    except httpx.HTTPError as fault:
        return _fail(f"the API of the stack on {options.data} does not answer ({fault}); start one with ./dev up")
    console = Console(highlight=False)
    world = build(options.users, options.seed)
    try:
        with Progress(*COLUMNS, console=console) as progress:
            _Seeding(stack, world, progress).run()
    except KeyboardInterrupt:
        return _fail("stopped; run it again for the rest", 130)
    except (AssertionError, httpx.HTTPError) as fault:
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


class _Seeding:
    """A world on its way into a stack."""

    def __init__(self, stack: Stack, world: World, progress: Progress) -> None:
        self.stack = stack
        self.world = world
        self.progress = progress
        self.people: dict[str, Person] = {}
        self.returned: set[str] = set()

    def run(self) -> None:
        self._each("accounts", self.world.residents, self._arrive)
        self._each("follows", self.world.follows, self._follow)
        self._each("posts", self._missing(), self._post)
        for person in self.people.values():
            person.close()

    def _each(self, what: str, items: Iterable[T], act: Callable[[T], None]) -> None:
        """Do it to all, some at a time. Raises what the first that fails raises."""
        items = list(items)
        task = self.progress.add_task(what, total=len(items))
        with ThreadPoolExecutor(THREADS) as threads:
            try:
                for _ in threads.map(act, items):
                    self.progress.advance(task)
            except BaseException:
                threads.shutdown(cancel_futures=True)
                raise

    def _arrive(self, one: Resident) -> None:
        visitor = Visitor(self.stack.api)
        if visitor.ask("GET", f"/v1/users/{one.username}").is_success:
            person = sign_in(self.stack, one.username, PASSWORD)
            self.returned.add(one.username)
        else:
            person = sign_up(
                self.stack, one.username, password=PASSWORD, name=one.name, bio=one.bio, birthday=one.birthday
            )
        visitor.close()
        self.people[one.username] = person

    def _follow(self, pair: tuple[str, str]) -> None:
        follower, followee = pair
        self.people[follower].follow(followee)

    def _missing(self) -> list[PlannedPost]:
        """What nobody has posted yet, in the world's order: an earlier run may have been cut short anywhere."""
        there = Counter(
            (name, post["type"], post["description"])
            for name in self.returned
            for post in self.people[name].items(f"/v1/users/{name}/posts")
        )
        missing: list[PlannedPost] = []
        for post in self.world.posts:
            key = (post.author, post.type, post.description)
            if there[key]:
                there[key] -= 1
            else:
                missing.append(post)
        return missing

    def _post(self, planned: PlannedPost) -> None:
        author = self.people[planned.author]
        media = [author.upload_photo(photo=make_photo(seed, planned.type)) for seed in planned.photos]
        author.post("/v1/posts", {"type": planned.type, "media": media, "description": planned.description})


def _show(world: World, console: Console) -> None:
    table = Table("kind", "accounts", "for example", box=None, pad_edge=False, header_style="bold")
    for kind in ("celebrity", "regular", "loner"):
        names = [one.username for one in world.residents if one.kind == kind]
        table.add_row(kind, str(len(names)), ", ".join(names[:4]))
    console.print("", table)
    console.print(f"\nThe password of each of these accounts is:  [bold]{PASSWORD}[/]")
