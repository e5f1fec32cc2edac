"""`./dev bench`: measures, and compares with the budgets. On a throwaway stack of its own; 1 if one is missed."""

import argparse
import subprocess
from collections.abc import Callable

from rich.console import Console
from rich.status import Status

from infra.bench import imports, latency, sockets, throughput
from infra.bench.people import People
from infra.bench.report import Measure, as_json, show
from infra.local.stack import ephemeral
from infra.targets import load as load_registry
from shared.kernel.endpoint import ENDPOINTS
from shared.kernel.events import REACTIONS

READ_IMPORT_MS = 250
READ_IMPORT_MIB = 40
FAULTS = (throughput.Failed, AssertionError, OSError, subprocess.CalledProcessError)


def main(arguments: list[str]) -> int:
    """Measure everything. 1: a budget was missed; 2: it could not be measured."""
    parser = argparse.ArgumentParser(prog="./dev bench", description="Measure, and compare with the budgets.")
    parser.add_argument("--json", action="store_true", help="a list of objects instead of the table")
    options = parser.parse_args(arguments)
    console = Console(highlight=False, stderr=options.json)
    try:
        with console.status("") as status:
            measures, costs = _measure(status)
    except FAULTS as fault:
        console.print(f"./dev bench: {fault}", style="red")
        return 2
    if options.json:
        print(as_json(measures, costs))
    else:
        show(measures, costs, console)
    return int(any(one.missed for one in measures))


def _measure(status: Status) -> tuple[list[Measure], dict[str, imports.Cost]]:
    def say(what: str) -> None:
        status.update(f"measuring: {what}")

    say("a stack of its own starts")
    with ephemeral() as stack:
        stack.apply()
        say("people sign up, and post")
        people = People(stack)
        say("write → socket")
        waits = latency.measure(people)
        say("many sockets")
        live = [
            Measure("write → socket p50", waits[len(waits) // 2], "ms"),
            Measure("write → socket p99", waits[len(waits) * 99 // 100], "ms", 100, at_most=True),
            *sockets.measure(stack),
        ]
        found = throughput.measure(stack, people, say) + live
    costs = _imports(say)
    return found + _dearest_read(costs), costs


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
