"""`./dev up`: starts the local stack, keeps it running, and leaves nothing behind."""

import asyncio
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from infra.local import leftovers
from infra.local.process import (
    FIRST_BACKOFF_SECONDS,
    QUICK_DEATH_SECONDS,
    QUICK_DEATHS,
    Died,
    Process,
)
from infra.local.screen import Screen
from infra.local.services import Service

TURN_LOGS_SECONDS = 20.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Broken(Exception):
    """The stack can't go on; the text says why."""


class Supervisor:
    """The processes of one stack."""

    def __init__(
        self,
        services: list[Service],
        data: Path,
        env: dict[str, str],
        root: Path,
        screen: Screen,
        on_change: Callable[[], None],
    ) -> None:
        logs = data / "logs"
        logs.mkdir(exist_ok=True)
        self._data = data
        self._screen = screen
        self._on_change = on_change
        self._processes = {s.name: Process(s, env, logs, root, self._record) for s in services}
        self._up = {name: asyncio.Event() for name in self._processes}
        self._edited = {name: asyncio.Event() for name in self._processes}
        self._settled = {name: asyncio.Event() for name in self._processes}
        """Set when a process answers, or has died; cleared by an edit."""
        self._keepers: list[asyncio.Task[None]] = []

    @property
    def pids(self) -> dict[str, int]:
        """Name → pid of every process that has been started to stay."""
        return {name: p.pid for name, p in self._processes.items() if p.pid and not p.service.once}

    async def start(self, stopping: asyncio.Event, beside: asyncio.Task[None]) -> None:
        """Start everything, each as soon as what it needs answers, or until `stopping` is set.

        Raises Broken, and what the task `beside` raises: it is ended with the rest.
        """
        turning = asyncio.create_task(self._turn_logs())
        self._keepers = [
            beside,
            turning,
            *(asyncio.create_task(self._keep(process)) for process in self._processes.values()),
        ]
        await self._until(stopping, asyncio.gather(*(event.wait() for event in self._up.values())))

    async def serve(self, stopping: asyncio.Event) -> None:
        """Keep everything running until `stopping` is set. Raises as start() does."""
        await self._until(stopping)

    async def edited(self, names: set[str]) -> None:
        """The code of these changed: start them afresh, one after the other.

        At once they would take each other's processor time; the first in the plan, the API, is what one waits for.
        """
        for name in self._processes:
            if name in names:
                self._settled[name].clear()
                self._edited[name].set()
                await self._processes[name].stop()
                await self._settled[name].wait()

    async def stop(self) -> None:
        """End everything, what is needed by others last."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        remaining = dict(self._processes)
        while remaining:
            needed = {need for process in remaining.values() for need in process.service.needs}
            going = [remaining.pop(name) for name in list(remaining) if name not in needed]
            await asyncio.gather(*(process.stop() for process in going))
        for process in self._processes.values():
            process.close()

    def kill(self) -> None:
        """End everything at once."""
        for process in self._processes.values():
            process.kill()

    async def _keep(self, process: Process) -> None:
        """Start a process when what it needs answers, and again whenever it dies. Raises Broken when that is no use."""
        name = process.service.name
        await asyncio.gather(*(self._up[need].wait() for need in process.service.needs))
        self._screen.starting(name)
        deaths = 0
        while True:
            edited = self._edited[name].is_set()
            self._edited[name].clear()
            try:
                await process.start()
                self._answered(process, edited)
                deaths, edited = 0 if edited else deaths, False
                if process.service.once:
                    return
                death = f"{name} {await process.wait()}{process.tail()}"
            except Died as died:
                death = str(died)
                self._settled[name].set()
            if self._edited[name].is_set():
                continue
            if not self._up[name].is_set():
                raise Broken(death)
            deaths = 1 if time.monotonic() - process.began > QUICK_DEATH_SECONDS else deaths + 1
            await self._after_death(process, death, deaths, edited)

    def _answered(self, process: Process, edited: bool) -> None:
        name = process.service.name
        self._settled[name].set()
        if not self._up[name].is_set():
            self._screen.answered(name)
            self._up[name].set()
        else:
            self._screen.say(f"{name} runs again{' with the edit' if edited else ''}")

    async def _after_death(self, process: Process, death: str, deaths: int, edited: bool) -> None:
        name = process.service.name
        if deaths < QUICK_DEATHS and not edited:
            backoff = FIRST_BACKOFF_SECONDS * 2 ** (deaths - 1)
            self._screen.say(f"{death}\n  it is started again in {backoff:.1f} s")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._edited[name].wait(), backoff)
        elif edited:
            self._screen.say(f"{death}\n  the edit broke it: it is started again at the next one")
            await self._edited[name].wait()
        else:
            raise Broken(f"{death}\n{name} died {deaths} times in a row")

    async def _until(self, stopping: asyncio.Event, *others: asyncio.Future[Any]) -> None:
        """Wait for `stopping` or one of `others`; what ends a keeper ends this."""
        ends: set[asyncio.Future[Any]] = {asyncio.ensure_future(stopping.wait()), *others}
        pending: set[asyncio.Future[Any]] = {*ends, *self._keepers}
        try:
            while ends <= pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for finished in done:
                    finished.result()
        finally:
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)

    async def _turn_logs(self) -> None:
        while True:
            await asyncio.sleep(TURN_LOGS_SECONDS)
            for process in self._processes.values():
                await asyncio.to_thread(process.turn_log)

    def _record(self) -> None:
        running = {name: (p.pid, p.started_at) for name, p in self._processes.items() if p.pid}
        leftovers.record(self._data, running)
        self._on_change()
