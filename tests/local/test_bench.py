"""The bench holds every budget of the design, each on its side. That it can be missed is why it is measured."""

import pytest

from infra.bench.report import Measure
from infra.bench.throughput import READS_AND_WRITES

BUDGETS = {
    "one post": 0.60,
    "profile": 0.60,
    "feed of 20": 0.35,
    "20 notifications": 0.35,
    "20 comments": 0.35,
    "20 followers": 0.35,
    "follow": 0.20,
    "react": 0.20,
    "save": 0.20,
    "comment": 0.20,
    "send": 0.20,
}


def test_every_read_and_write_with_a_budget_has_a_row() -> None:
    assert {name: budget for name, budget, _ in READS_AND_WRITES} == BUDGETS


@pytest.mark.parametrize(
    ("value", "budget", "at_most", "missed"),
    [
        (0.59, 0.60, False, True),
        (0.60, 0.60, False, False),
        (101, 100, True, True),
        (100, 100, True, False),
        (0, None, False, False),
    ],
)
def test_a_budget_is_missed_on_its_wrong_side_only(
    value: float, budget: float | None, at_most: bool, missed: bool
) -> None:
    assert Measure("any", value, "", budget, at_most=at_most).missed is missed
