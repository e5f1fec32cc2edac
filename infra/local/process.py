"""One process of the stack: started, watched until it answers, restarted when it dies, stopped with all it started."""

import asyncio
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import psutil

from infra.local.launcher import launched, root_identity
from infra.local.ports import LOOPBACK
from infra.local.services import NotReady, Service

LOG_BYTES = 32 << 20
TAIL_LINES = 12
POLL_SECONDS = 0.05
GROUP_SECONDS = 5.0
QUICK_DEATH_SECONDS = 10.0
QUICK_DEATHS = 5
FIRST_BACKOFF_SECONDS = 0.2
LISTEN_BACKLOG = 128


class Died(Exception):
    """A process that ended, or never answered, where it should have; the text says how, with its last log lines."""


class Process:
    """A service and the process that runs it now."""

    def __init__(
        self, service: Service, env: dict[str, str], logs: Path, root: Path, on_change: Callable[[], None]
    ) -> None:
        self.service = service
        self.log = logs / f"{service.name}.log"
        self.pid: int | None = None
        self.started_at = 0.0
        """When it was started by the system's clock, as psutil says it; `began` is by the monotonic one."""
        self.began = 0.0
        self._env = env
        self._root = root
        self._on_change = on_change
        self._running: asyncio.subprocess.Process | None = None
        self._listener: socket.socket | None = None
        self._log_from = 0

    async def start(self) -> None:
        """Start it and wait until it answers. Raises Died."""
        service = self.service
        try:
            await asyncio.to_thread(service.prepare)
            identity = root_identity() if service.refuses_root else "self"
        except (NotReady, OSError) as error:
            raise Died(f"{service.name} can't start: {error}") from None
        if not service.command:
            return
        spawning = asyncio.ensure_future(self._spawn(launched(service.command, service.stop_signal, identity)))
        try:
            running = await asyncio.shield(spawning)
        except asyncio.CancelledError:
            self._running = await spawning  # so that stop() finds what was being started
            raise
        self._running = running
        self.pid = running.pid
        self.began = time.monotonic()
        self.started_at = _start_time(self.pid)
        self._on_change()
        await (self._end_of_step() if service.once else self._until_ready())

    async def wait(self) -> str:
        """Wait until it ends by itself; what is left of its group is ended too. Returns how it ended."""
        assert self._running is not None
        code = await self._running.wait()
        await _end_group(self._running.pid)
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    async def stop(self) -> None:
        """End it: its stop signal, then after `stop_seconds` a kill. Nothing of its group is left."""
        running = self._running  # another may have taken its place by the time that this one has ended
        if running is None:
            return
        if running.returncode is None:
            _send(running.pid, self.service.stop_signal)
            try:
                await asyncio.wait_for(running.wait(), self.service.stop_seconds)
            except TimeoutError:
                _send(running.pid, signal.SIGKILL)
                await running.wait()
            await _end_group(running.pid)

    def kill(self) -> None:
        """End it now, unasked."""
        if self._running is not None and self._running.returncode is None:
            _send(self._running.pid, signal.SIGKILL)

    def close(self) -> None:
        """Stop listening on its behalf."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def tail(self) -> str:
        """The last lines that it logged since its last start, indented, and where the rest is."""
        with self.log.open("rb") as file:
            file.seek(max(self._log_from, self.log.stat().st_size - 16_384))
            lines = file.read().decode(errors="replace").splitlines()[-TAIL_LINES:]
        return "".join(f"\n    {line}" for line in lines) + f"\n  log: {self.log}"

    async def _until_ready(self) -> None:
        assert self._running is not None
        ended = asyncio.ensure_future(self._running.wait())
        give_up = time.monotonic() + self.service.start_seconds
        try:
            while lack := await self._lack(ended):
                if time.monotonic() > give_up:
                    seconds = f"{self.service.start_seconds:g} s"
                    raise Died(f"{self.service.name} did not answer within {seconds} ({lack}){self.tail()}")
                await asyncio.wait({ended}, timeout=POLL_SECONDS)
        finally:
            ended.cancel()

    async def _lack(self, ended: asyncio.Future[int]) -> str:
        """What it lacks to be ready now, nothing if it is. Raises Died when it ends."""
        check = asyncio.ensure_future(asyncio.to_thread(self.service.ready))
        await asyncio.wait({ended, check}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            check.add_done_callback(lambda late: late.cancelled() or late.exception())  # nobody asks any more
            raise Died(f"{self.service.name} {await self.wait()} before it answered{self.tail()}")
        try:
            await check
        except NotReady as not_ready:
            return str(not_ready)
        return ""

    async def _end_of_step(self) -> None:
        assert self._running is not None
        try:
            code = await asyncio.wait_for(self._running.wait(), self.service.start_seconds)
        except TimeoutError:
            await self.stop()
            raise Died(
                f"{self.service.name} did not end within {self.service.start_seconds:g} s{self.tail()}"
            ) from None
        if code != 0:
            raise Died(f"{self.service.name} ended with exit code {code}{self.tail()}")

    def turn_log(self) -> None:
        """Begin the log anew if it has grown long, and keep the last one beside it. The process writes on."""
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            shutil.copyfile(self.log, self.log.with_suffix(".log.1"))
            os.truncate(self.log, 0)
            self._log_from = 0

    def _open_log(self) -> BinaryIO:
        self.turn_log()
        file = self.log.open("ab")
        self._log_from = file.tell()
        return file

    async def _spawn(self, command: list[str]) -> asyncio.subprocess.Process:
        env = self._env | self.service.env
        inherited: list[int] = []
        if self.service.hands_over:
            inherited = [self._listening(self.service.ports[0])]
            env["LISTEN_FDS"] = str(inherited[0])
        with self._open_log() as log:
            return await asyncio.create_subprocess_exec(
                *command,
                cwd=self._root,
                env=env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
                pass_fds=inherited,
            )

    def _listening(self, port: int) -> int:
        """The descriptor of the socket that listens on `port`, open from the first start to close()."""
        if self._listener is None:
            self._listener = socket.create_server((LOOPBACK, port), backlog=LISTEN_BACKLOG)
        return self._listener.fileno()


async def _end_group(group: int) -> None:
    """Kill what an ended leader left behind, and wait until it is gone."""
    give_up = time.monotonic() + GROUP_SECONDS
    while time.monotonic() < give_up:
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # macOS says EPERM of a group of zombies
            return
        await asyncio.sleep(POLL_SECONDS / 5)


def _start_time(pid: int) -> float:
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return time.time()


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
