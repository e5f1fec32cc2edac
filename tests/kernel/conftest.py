"""Stores of the kernel tests' own, which they kill."""

from collections.abc import Iterator

import pytest

from shared.kernel import db
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


@pytest.fixture
def things(servers: Servers) -> Iterator[None]:
    """A table to try things on."""
    with db.connection() as conn:
        conn.command("CREATE TABLE things (id bigint PRIMARY KEY, name text, CONSTRAINT thing_name UNIQUE (name))")
    yield
    db.disconnect()
    with db.connection() as conn:
        conn.command("DROP TABLE things")
