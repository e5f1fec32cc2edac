"""The graph by the official driver: `execute_write` and `execute_read` alone, as DESIGN found to be safe everywhere."""

import threading
import time
from typing import TYPE_CHECKING, Any, Final, cast

from shared.kernel import ledger
from shared.kernel.config import settings
from shared.kernel.problems import Unavailable

if TYPE_CHECKING:
    import neo4j

TIMEOUT_SECONDS: Final = 3.0
# After a failure it is left alone so long: what waits for it fails at once instead of holding threads.
REST_SECONDS: Final = 1.0


class GraphUnavailable(Unavailable):
    """The graph can't be reached, or doesn't answer in time."""

    def __init__(self) -> None:
        super().__init__("graph")


# Any: the driver's options are untyped.
_driver: Any = None
_lock = threading.Lock()
_down_until = 0.0


def _the_driver() -> Any:
    global _driver
    with _lock:
        if _driver is None:
            import neo4j

            _driver = cast("Any", neo4j.GraphDatabase).driver(
                settings().neo4j_uri,
                auth=(settings().neo4j_user, settings().neo4j_password),
                connection_timeout=TIMEOUT_SECONDS,
                connection_acquisition_timeout=TIMEOUT_SECONDS,
                max_transaction_retry_time=TIMEOUT_SECONDS,
                liveness_check_timeout=10.0,
            )
    return _driver


def write(query: str, **parameters: Any) -> None:
    """Run one statement in a transaction of its own. Raises GraphUnavailable."""
    from neo4j.exceptions import ConstraintError

    try:
        _run(query, parameters)
    except ConstraintError:
        # Two writers made one node at once; the driver doesn't retry that, and the second time it is there.
        _run(query, parameters)


def read(query: str, **parameters: Any) -> list[dict[str, Any]]:
    """The records of a statement, as maps. Raises GraphUnavailable."""
    return _run(query, parameters, writes=False)


def _run(query: str, parameters: dict[str, Any], *, writes: bool = True) -> list[dict[str, Any]]:
    from neo4j.exceptions import DriverError, TransientError

    def work(tx: "neo4j.ManagedTransaction") -> list[dict[str, Any]]:
        return tx.run(query, parameters).data()  # type: ignore[arg-type]  # the driver wants a literal; ours are constants

    global _down_until
    if time.monotonic() < _down_until:
        raise GraphUnavailable
    started = time.perf_counter()
    try:
        with _the_driver().session(database=settings().neo4j_database) as session:
            return session.execute_write(work) if writes else session.execute_read(work)
    except (DriverError, TransientError, OSError):
        _down_until = time.monotonic() + REST_SECONDS
        raise GraphUnavailable from None
    finally:
        ledger.record("graph", time.perf_counter() - started)
