"""What was measured, beside the budgets of DESIGN: a table, or JSON for programs."""

import json
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from infra.bench.imports import Cost
from infra.bench.load import CONNECTIONS

NOTES = (
    "Ratios are of requests that one process serves a second of its CPU, to those of a trivial endpoint of the same "
    f"framework, loaded in turn with each in this same run over {CONNECTIONS} connections, with background, relay and "
    "live service standing still; and of requests a second, which share the machine with stores and load generator. "
    "Trips are round trips a request, to Redis + to Postgres. Imports are beyond the framework's own."
)


class Measure(msgspec.Struct):
    """One number. `budget` is what it must reach, or with `at_most` what it may not pass; None where there is none.

    Of an endpoint, `cpu_us` is what a request took of the server's CPU, in microseconds, by which the ratio is; and
    `rate_of_trivial` is the ratio of requests a second.
    """

    name: str
    value: float
    unit: str
    budget: float | None = None
    at_most: bool = False
    detail: str = ""
    cpu_us: float | None = None
    rate_of_trivial: float | None = None

    @property
    def missed(self) -> bool:
        """Whether it is on the wrong side of its budget."""
        if self.budget is None:
            return False
        return self.value > self.budget if self.at_most else self.value < self.budget


def as_json(measures: list[Measure], costs: dict[str, Cost]) -> str:
    """All of it, as one object."""
    rows: list[dict[str, Any]] = [msgspec.structs.asdict(one) | {"missed": one.missed} for one in measures]
    imports = {name: msgspec.structs.asdict(cost) for name, cost in costs.items()}
    return json.dumps({"measures": rows, "imports": imports}, indent=2)


def show(measures: list[Measure], costs: dict[str, Cost], console: Console) -> None:
    """Print the tables."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("measured")
    table.add_column("", justify="right")
    table.add_column("")
    table.add_column("budget", justify="right")
    table.add_column("")
    for one in measures:
        budget = "" if one.budget is None else f"{'≤' if one.at_most else '≥'} {_short(one.budget)}"
        style = "bold red" if one.missed else "green" if one.budget is not None else None
        table.add_row(one.name, _short(one.value), one.unit, budget, one.detail, style=style)
    imports = Table("imports of", box=None, pad_edge=False, header_style="bold")
    imports.add_column("ms", justify="right")
    imports.add_column("MiB", justify="right")
    for name, cost in costs.items():
        imports.add_row(name, _short(cost.ms), _short(cost.mib))
    # Without imports it is growth alone, which is not compared with the trivial endpoint.
    console.print("", *([imports, "", table, "", NOTES] if costs else [table]))
    missed = [one.name for one in measures if one.missed]
    console.print(f"\n[bold red]missed: {', '.join(missed)}" if missed else "\n[green]within every budget")


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
