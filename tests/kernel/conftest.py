"""Stores of the kernel tests' own, which they kill."""

from collections.abc import Iterator

import pytest

from tests.servers import Servers, using


@pytest.fixture(scope="session")
def kernel_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    made = Servers(tmp_path_factory.mktemp("stores"))
    try:
        made.postgres.start()
        made.valkey.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def servers(kernel_servers: Servers) -> Iterator[Servers]:
    """Postgres and Valkey, and this process using them."""
    with using(kernel_servers.env):
        yield kernel_servers
