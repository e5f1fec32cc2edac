"""`./dev targets`: the function targets, as they are declared."""

import argparse
import json
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final

from rich.console import Console
from rich.table import Table

import main as table_of_targets
from shared.kernel import openapi
from shared.kernel.endpoint import ENDPOINTS, Endpoint
from shared.kernel.events import REACTIONS, Reaction

_PLACES: Final = {name: place for place, name in enumerate(table_of_targets.MODULES)}


def load() -> None:
    """Load every module that the table of targets names, so that the registry is whole."""
    for module in sorted({*table_of_targets.ENDPOINT_TARGETS, *table_of_targets.EVENT_TARGETS}):
        import_module(module)


def rows() -> Iterator[dict[str, Any]]:
    """Every target: endpoints with method, path, auth and limit; background functions with their events."""
    for one in sorted(ENDPOINTS.values(), key=_place):
        yield {
            "target": one.name,
            "module": one.function.__module__,
            "method": one.method,
            "path": one.path,
            "auth": one.auth,
            "limit": one.limit,
        }
    for reaction in sorted(REACTIONS.values(), key=_place):
        yield {
            "target": reaction.name,
            "module": reaction.function.__module__,
            "events": [event.topic for event in reaction.events],
            "max_attempts": reaction.max_attempts,
        }


def _place(declared: Endpoint | Reaction) -> int:
    """Where the table of targets has it: in which order modules were loaded is nothing to anyone."""
    return _PLACES[declared.name]


def main(arguments: list[str]) -> int:
    """Print the targets: a table, or with `--json` for programs, or with `--openapi` the endpoints' document."""
    parser = argparse.ArgumentParser(prog="./dev targets", description="The function targets, as they are declared.")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="a list of objects")
    form.add_argument("--openapi", action="store_true", help="the OpenAPI 3.1 document of the endpoints")
    options = parser.parse_args(arguments)
    load()
    if options.openapi:
        print(json.dumps(openapi.document(ENDPOINTS.values()), indent=2, ensure_ascii=False))
    elif options.json:
        print(json.dumps(list(rows()), indent=2))
    else:
        _print_table()
    return 0


def _print_table() -> None:
    table = Table("target", "method", "path or events", "for", "limit", box=None, pad_edge=False, header_style="bold")
    for row in rows():
        if "events" in row:
            table.add_row(row["target"], "event", ", ".join(row["events"]), "", f"{row['max_attempts']} attempts")
        else:
            table.add_row(row["target"], row["method"], row["path"], row["auth"], row["limit"])
    console = Console(highlight=False)
    # In a pipe there is no screen to fit into.
    console.print(table, width=None if console.is_terminal else 200)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
