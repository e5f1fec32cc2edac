"""When all the others have run, what Redis and the graph hold on their stack can be brought to what Postgres says.

tests/conftest.py has this come last. Some tests write to Postgres behind the product's back, which leaves differences:
so it shows that whatever differs is mended, and not that nothing does.
"""

import pytest

from infra.local.stack import Stack
from infra.verify import said, scan
from infra.verify.kinds import UNKNOWN


def differences() -> list[scan.Difference]:
    """What differs, but for kinds of keys that only a test has made."""
    return [one for one in scan.verify().differences if one.kind != UNKNOWN]


@pytest.mark.timeout(300)
def test_what_all_tests_left_behind_can_be_mended(stack: Stack) -> None:
    scan.repair(differences())
    assert "\n".join(map(said, differences())) == ""
