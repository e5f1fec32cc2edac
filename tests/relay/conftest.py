"""Postgres, Valkey and a broker of the relay tests' own, which they kill."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.migrations import migrate
from tests.relay.broker import Pubsub
from tests.servers import ROOT, Servers, using


@pytest.fixture(scope="session")
def relay_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    made = Servers(tmp_path_factory.mktemp("stores"))
    try:
        made.postgres.start()
        made.valkey.start()
        made.pubsub.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def servers(relay_servers: Servers) -> Iterator[Servers]:
    """The stores with an empty outbox, and this process using them."""
    env = relay_servers.env | {"DATABASE_URL": relay_servers.new_database()}
    with using(env):
        migrate()
        yield relay_servers


@pytest.fixture
def pubsub(servers: Servers) -> Pubsub:
    """The broker with a topic of this test's own."""
    return Pubsub(servers.env["PUBSUB_EMULATOR_HOST"], servers.env["GOOGLE_CLOUD_PROJECT"])


Relays = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def relay(servers: Servers, tmp_path: Path) -> Iterator[Relays]:
    """Starts relays as processes; they are killed at the end."""
    running: list[subprocess.Popen[str]] = []

    def start(code: str = "", **env: str) -> "subprocess.Popen[str]":
        command = [sys.executable, *(["-c", code] if code else ["-m", "realtime_service.relay"])]
        with (tmp_path / f"relay{len(running)}.log").open("w") as log:
            running.append(subprocess.Popen(command, cwd=ROOT, env=os.environ | env, stderr=log, text=True))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()
