"""`./dev seed`: fills a running stack with a world, through the API alone. Run again, it makes what is missing."""

import argparse
import os
from collections import defaultdict
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
COLUMNS = (
    TextColumn("{task.description:<9}"),
    BarColumn(40),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
)


def main(arguments: list[str]) -> int:
    """Seed the stack; 1 if none runs."""
    options = _options(arguments)
    console = Console(highlight=False)
    try:
        stack = stacks.load(options.data)
        Visitor(stack.api).get("/healthz")
    except (StackFailed, httpx.HTTPError) as fault:
        console.print(f"./dev seed: no stack answers ({fault}); start one with ./dev up", style="red")
        return 1
    world = build(options.users, options.seed)
    with Progress(*COLUMNS, console=console) as progress:
        _Seeding(stack, world, progress).run()
    _show(world, console)
    return 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev seed", description="Fill a running stack with a world.")
    parser.add_argument("--users", type=_count, default=200, metavar="N", help="how many accounts (200)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="another number is another world (1)")
    place = os.environ.get("STACK", stacks.ROOT / ".local")
    parser.add_argument("--data", type=Path, default=place, metavar="DIR", help="the stack's data folder (.local)")
    return parser.parse_args(arguments)


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 9999:
        raise ValueError
    return number


class _Seeding:
    """A world on its way into a stack."""

    def __init__(self, stack: Stack, world: World, progress: Progress) -> None:
        self.stack = stack
        self.world = world
        self.progress = progress
        self.people: dict[str, Person] = {}

    def run(self) -> None:
        self._each("accounts", self.world.residents, self._arrive)
        self._each("follows", self.world.follows, self._follow)
        by_author: defaultdict[str, list[PlannedPost]] = defaultdict(list)
        for post in self.world.posts:
            by_author[post.author].append(post)
        missing = [post for posts in by_author.values() for post in self._missing(posts)]
        self._each("posts", missing, self._post)
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
        else:
            person = sign_up(
                self.stack, one.username, password=PASSWORD, name=one.name, bio=one.bio, birthday=one.birthday
            )
        visitor.close()
        self.people[one.username] = person

    def _follow(self, pair: tuple[str, str]) -> None:
        follower, followee = pair
        self.people[follower].follow(followee)

    def _missing(self, posts: list[PlannedPost]) -> list[PlannedPost]:
        """What an author has not posted yet, in an earlier run that was cut short."""
        return posts[self.people[posts[0].author].get("/v1/me")["counts"]["posts"] :]

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
