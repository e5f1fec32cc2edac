"""`./dev up` and `./dev reset`, as they are typed."""

import argparse
import asyncio
import fcntl
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TextIO

from infra.local import keys, leftovers, plan, ports, stores
from infra.local.screen import Screen
from infra.local.stack import ROOT
from infra.local.storage_signer import make_signer
from infra.local.supervisor import STOP_SIGNALS, Broken, Supervisor
from infra.local.watch import watch
from shared.kernel import config

TEMPORARY = "i9lyfe-"
SHOWN = ("api", "live", "console")
USER_FAULTS = (leftovers.AlreadyRunning, ports.PortTaken, plan.UnknownPart, stores.NoServer, Broken)
USER_FAULTS += (config.ConfigError, PermissionError)


def up(arguments: list[str]) -> int:
    """Start the stack and stay until told to stop. Returns the exit code: 0 stopped, 1 the stack could not go on."""
    options = _options(arguments)
    data = Path(tempfile.mkdtemp(prefix=TEMPORARY)) if options.ephemeral else options.data.resolve()
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        return _locked(data, options)
    except USER_FAULTS as fault:
        print(f"./dev up: {fault}", file=sys.stderr)
        return 1
    finally:
        if options.ephemeral:
            shutil.rmtree(data, ignore_errors=True)


def reset(arguments: list[str]) -> int:
    """Delete a data folder, so that the next start is the first. Returns 1 if a stack runs on it."""
    parser = argparse.ArgumentParser(prog="./dev reset", description="Delete all data of the local stack.")
    parser.add_argument("--data", type=Path, default=ROOT / ".local", metavar="DIR", help="the data folder (.local)")
    data = parser.parse_args(arguments).data.resolve()
    if not data.exists():
        print(f"{data}: nothing there")
        return 0
    if not (data / "lock").exists():
        print(f"./dev reset: {data} is no data folder of a stack", file=sys.stderr)
        return 1
    try:
        with leftovers.lock(data):
            leftovers.end_leftovers(data)
            shutil.rmtree(data)
    except leftovers.AlreadyRunning as fault:
        print(f"./dev reset: {fault}", file=sys.stderr)
        return 1
    print(f"{data} is gone; ./dev up starts afresh")
    return 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev up", description="Start the whole stack on this machine.")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--data", type=Path, default=ROOT / ".local", metavar="DIR", help="the data folder (.local)")
    place.add_argument("--ephemeral", action="store_true", help="free ports, and a data folder deleted at the end")
    parser.add_argument("--only", default="", metavar="PART[,PART]", help="these parts and what they need")
    return parser.parse_args(arguments)


def _locked(data: Path, options: argparse.Namespace) -> int:
    with leftovers.lock(data) as lock:
        if options.ephemeral:
            _sweep_temporary(lock)
        for name in leftovers.end_leftovers(data):
            print(f"{name} was left over from a stack that was killed; it is ended")
        chosen = ports.choose(ports.PREFERRED, data / "ports.json", free=options.ephemeral)
        secrets = keys.load_or_make(data / "secrets.json")
        if not (data / "signer.json").exists():
            make_signer(data / "signer.json")
        planned = plan.make(data, chosen, secrets, [name for name in options.only.split(",") if name])
        for service in planned.services:
            ports.check(service.name, service.ports)
        env = {name: value for name, value in os.environ.items() if name not in plan.DROPPED}
        env |= {"PYTHONUNBUFFERED": "1"} | planned.env
        config.read(env)  # before anything is started in vain
        screen = Screen([service.name for service in planned.services])
        try:
            return asyncio.run(_run(planned, env, data, screen))
        finally:
            screen.close()


async def _run(planned: plan.Plan, env: dict[str, str], data: Path, screen: Screen) -> int:
    def write_stack() -> None:
        pids = supervisor.pids | {"supervisor": os.getpid()}
        keys.write_private(data / "stack.json", json.dumps(planned.addresses | {"pids": pids}, indent=2) + "\n")

    keys.write_private(data / "env.json", json.dumps(planned.env, indent=2) + "\n")
    supervisor = Supervisor(planned.services, data, env, ROOT, screen, write_stack)
    stopping = _stop_on_signals(supervisor, screen)
    # Before anything starts, so that no edit is missed.
    watching = asyncio.create_task(watch(ROOT, planned.services, supervisor.edited, screen.say))
    await asyncio.sleep(0)
    try:
        await supervisor.start(stopping, watching)
        if not stopping.is_set():
            started = [name for name in SHOWN if name in supervisor.pids]
            words = [*(f"{name}={planned.addresses[name]}" for name in started), f"stack={data / 'stack.json'}"]
            screen.ready(f"ready {' '.join(words)}")
            await supervisor.serve(stopping)
        return 0
    finally:
        screen.close()
        await supervisor.stop()
        for name in ("run.json", "stack.json", "env.json"):
            (data / name).unlink(missing_ok=True)


def _stop_on_signals(supervisor: Supervisor, screen: Screen) -> asyncio.Event:
    """An event that the first Ctrl-C or the like sets; a second one doesn't wait for anything."""
    stopping = asyncio.Event()

    def stop() -> None:
        if stopping.is_set():
            supervisor.kill()
        else:
            screen.close()
            screen.say("stopping; Ctrl-C once more doesn't wait")
        stopping.set()

    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop)
    return stopping


def _sweep_temporary(ours: TextIO) -> None:
    """Delete the data folders of ephemeral stacks whose supervisor was killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{TEMPORARY}*"):
        try:
            with (folder / "lock").open("r+") as lock:
                if not os.path.sameopenfile(lock.fileno(), ours.fileno()):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    leftovers.end_leftovers(folder)
                    shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue
