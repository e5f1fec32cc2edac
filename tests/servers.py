"""Stores for the tests that kill them: started as the local stack starts them, and not shared with other tests."""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from infra.local import keys, plan, ports, stores
from infra.local.launcher import launched, root_identity
from infra.local.services import NotReady, Service, port_ready
from shared.kernel import cache, config, db

ROOT = Path(__file__).parents[1]
# A server ends with the thread that started it: this one lasts as long as the tests.
_spawner = ThreadPoolExecutor(1)


class Server:
    """A server of a test's own: it can be killed, frozen and started again with its data."""

    def __init__(self, service: Service, folder: Path):
        self.service = service
        self.log = folder / f"{service.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        eventually(lambda: all(ports.is_free(port) for port in self.service.ports))
        self.service.prepare()
        identity = root_identity() if self.service.refuses_root else "self"
        with self.log.open("ab") as log:
            command = launched(self.service.command, signal.SIGKILL, identity)
            spawning = _spawner.submit(subprocess.Popen[bytes], command, stdout=log, stderr=log, cwd=ROOT)
            self._process = spawning.result()
        eventually(self._answers, 30)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        try:
            self.service.ready()
        except NotReady:
            return False
        return True

    def kill(self) -> None:
        """As kill -9 does."""
        assert self._process is not None
        children = psutil.Process(self._process.pid).children() if self._process.poll() is None else []
        self._process.kill()
        self._process.wait()
        eventually(lambda: all(map(_has_ended, children)))  # they notice by themselves

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Alive, but without an answer."""
        frozen = [psutil.Process(self.pid), *psutil.Process(self.pid).children()]
        for process in frozen:
            process.suspend()
        try:
            yield
        finally:
            for process in frozen:
                process.resume()


def _has_ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE  # whose new parent may take its time
    except psutil.NoSuchProcess:
        return True


class Servers:
    """A Postgres, a Valkey and a Pub/Sub broker, and the settings of who uses them."""

    def __init__(self, folder: Path):
        chosen: dict[str, int] = {}
        for name in ports.PREFERRED:
            chosen[name] = ports.free_port(chosen.values())
        self.ports = chosen
        made = keys.load_or_make(folder / "secrets.json")
        self.env = plan.settings(folder, chosen, made)
        self.postgres = Server(stores.postgres(folder, chosen["postgres"], made["postgres"], made["database"]), folder)
        self.valkey = Server(stores.valkey(folder, chosen["valkey"], made["valkey"]), folder)
        broker = (sys.executable, "-m", "infra.local.pubsub", "--port", str(chosen["pubsub"]))
        broker += ("--http-port", str(chosen["pubsub_http"]), "--data", str(folder / "pubsub"))
        self.pubsub = Server(
            Service(name="pubsub", command=broker, ready=port_ready(chosen["pubsub"]), ports=(chosen["pubsub"],)),
            folder,
        )

    def stop(self) -> None:
        for server in (self.postgres, self.valkey, self.pubsub):
            if server._process is not None:
                server.kill()

    def new_database(self) -> str:
        """The URL of an empty database of its own."""
        name = f"test_{secrets.token_hex(6)}"
        with using({**self.env, "DATABASE_URL": self._as_admin()}), db.unlimited() as conn:
            conn.command(f"CREATE DATABASE {name} OWNER {stores.DATABASE}")
        return self.env["DATABASE_URL"].rpartition("/")[0] + f"/{name}"

    def _as_admin(self) -> str:
        made = keys.load_or_make(self.postgres.log.parent / "secrets.json")
        return f"postgresql://postgres:{made['postgres']}@127.0.0.1:{self.ports['postgres']}/postgres"

    def redis_address(self) -> tuple[str, int]:
        url = urlsplit(self.env["REDIS_URL"])
        return url.hostname or "", url.port or 0


@contextmanager
def using(env: dict[str, str]) -> Iterator[None]:
    """Make this process one with the settings `env`, and afterwards again what it was."""
    before = dict(os.environ)

    def forget() -> None:
        db.disconnect()
        cache.disconnect()
        config.settings.cache_clear()

    forget()
    os.environ.update(env)
    try:
        yield
    finally:
        forget()
        os.environ.clear()
        os.environ.update(before)


def eventually(holds: Callable[[], bool], seconds: float = 15.0) -> None:
    """Wait until it holds; fail when it doesn't in time."""
    give_up = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up, "it did not come about in time"
        time.sleep(0.01)
