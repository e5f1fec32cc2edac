"""`./dev bench`: measures, and compares with the budgets. On a throwaway stack of its own; 1 if one is missed."""

import argparse
import subprocess
from collections.abc import Callable

import httpx
from rich.console import Console
from rich.status import Status

from infra.bench import growth, imports, latency, sockets, throughput
from infra.bench.people import People
from infra.bench.report import Measure, as_json, show
from infra.client import Refused
from infra.local.stack import Stack, ephemeral
from infra.targets import load as load_registry
from shared.kernel.endpoint import ENDPOINTS
from shared.kernel.events import REACTIONS
from tests.client import processes, wait_until

BACK_SECONDS = 60
READ_IMPORT_MS = 250
READ_IMPORT_MIB = 40
FAULTS = (throughput.Failed, AssertionError, Refused, OSError, subprocess.CalledProcessError)


def main(arguments: list[str]) -> int:
    """Measure everything. 1: a budget was missed; 2: it could not be measured."""
    parser = argparse.ArgumentParser(prog="./dev bench", description="Measure, and compare with the budgets.")
    parser.add_argument("--json", action="store_true", help="a list of objects instead of the table")
    parser.add_argument("--after-kills", action="store_true", help="first kill -9 each process, which is started again")
    parser.add_argument("--growth", action="store_true", help="only what grows with followers and posts: two minutes")
    options = parser.parse_args(arguments)
    console = Console(highlight=False, stderr=options.json)
    try:
        with console.status("") as status:
            measures, costs = _growth(status) if options.growth else _measure(status, after_kills=options.after_kills)
    except FAULTS as fault:
        console.print(f"./dev bench: {fault}", style="red")
        return 2
    if options.json:
        print(as_json(measures, costs))
    else:
        show(measures, costs, console)
    return int(any(one.missed for one in measures))


def _growth(status: Status) -> tuple[list[Measure], dict[str, imports.Cost]]:
    status.update("measuring: a stack of its own starts")
    with ephemeral() as stack:
        stack.apply()
        return growth.measure(stack, lambda what: status.update(f"measuring: {what}")), {}


def _measure(status: Status, *, after_kills: bool) -> tuple[list[Measure], dict[str, imports.Cost]]:
    def say(what: str) -> None:
        status.update(f"measuring: {what}")

    say("a stack of its own starts")
    with ephemeral() as stack:
        if after_kills:
            _kill_each(stack, say)
        stack.apply()
        say("people sign up, and post")
        people = People(stack)
        say("posts and messages to sockets")
        live = latency.measure(people)
        say("many sockets")
        live += sockets.measure(stack)
        found = throughput.measure(stack, people, say) + live
    costs = _imports(say)
    return found + _dearest_read(costs), costs


def _kill_each(stack: Stack, say: Callable[[str], None]) -> None:
    """End every process but the supervisor in turn, and wait until all of them answer again."""
    parts = {part: pid for part, pid in stack.pids.items() if part != "supervisor"}
    for part, pid in parts.items():
        say(f"{part} is killed, and comes back")
        for process in processes(stack, part):
            process.kill()
        wait_until(lambda part=part, pid=pid: stack.reread().pids[part] != pid, BACK_SECONDS)
    live = stack.live.replace("ws://", "http://").removesuffix("/v1/live")
    for url in (f"{stack.api}/readyz", f"{live}/readyz"):
        wait_until(lambda url=url: _answers(url), BACK_SECONDS)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _imports(say: Callable[[str], None]) -> dict[str, imports.Cost]:
    """What each target's imports cost."""
    load_registry()
    costs: dict[str, imports.Cost] = {}
    for name in [*ENDPOINTS, *REACTIONS]:
        say(f"imports of {name}")
        costs[name] = imports.cost(name)
    return costs


def _dearest_read(costs: dict[str, imports.Cost]) -> list[Measure]:
    """The reads that cost most: only reads have a budget."""
    reads = [name for name in costs if name in ENDPOINTS and ENDPOINTS[name].method == "GET"]
    slow, big = (max(reads, key=lambda name: getattr(costs[name], what)) for what in ("ms", "mib"))
    return [
        Measure("imports of a read, the slowest", costs[slow].ms, "ms", READ_IMPORT_MS, at_most=True, detail=slow),
        Measure("imports of a read, the biggest", costs[big].mib, "MiB", READ_IMPORT_MIB, at_most=True, detail=big),
    ]
