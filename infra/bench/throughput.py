"""What a process serves a second of its CPU, to what a trivial one does; and events, when what was written is told."""

import os
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
import psutil

from infra.bench import load
from infra.bench.people import People
from infra.bench.report import Measure
from infra.local.ports import free_port
from infra.local.stack import ROOT, Stack
from shared.kernel import db
from tests.client import processes, standing_still, wait_until

ROUNDS = 3
SECONDS = 2.0
TRIVIAL_SECONDS = 1.0
POSTS_A_ROUND = 150
DRAIN_SECONDS = 10.0
STANDING_STILL = ("background", "relay", "live", "pubsub", "console")
HANDLED = re.compile(rb'"message":"\w+ handled ')
# Name, its budget as a ratio, and who makes its requests.
READS_AND_WRITES: tuple[tuple[str, float | None, Callable[[People], list[bytes]]], ...] = (
    ("one post", 0.60, People.one_post),
    ("profile", 0.60, People.profile),
    ("feed of 20", 0.35, People.feed),
    ("20 notifications", 0.35, People.notifications),
    ("20 comments", 0.35, People.comments),
    ("20 followers", 0.35, People.followers),
    ("follow", 0.20, People.follow),
    ("react", 0.20, People.react),
    ("save", 0.20, People.save),
    ("comment", 0.20, People.comment),
    ("send", 0.20, People.send),
)


class Server(NamedTuple):
    """What is loaded: where it listens, and whose CPU it takes."""

    port: int
    processes: list[psutil.Process]

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        return sum(sum(process.cpu_times()[:2]) for process in self.processes)


class Sent(NamedTuple):
    """What came of a load, and the microseconds of the server's CPU that a request took."""

    tally: load.Tally
    cpu: float


class Failed(Exception):
    """A load that was not answered with successes alone; the text says with what."""


@contextmanager
def trivial_endpoint() -> Iterator[Server]:
    """The yardstick."""
    port = free_port()
    # The framework as its own requirements install it, as when DESIGN measured: a faster loop and parser are ours.
    command = [sys.executable, "-m", "uvicorn", "functions_framework.aio:app", "--loop", "asyncio", "--http", "h11"]
    command += ["--log-level", "error", "--port", str(port)]
    target = {"FUNCTION_SOURCE": "infra/bench/trivial.py", "FUNCTION_TARGET": "trivial"}
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | target)
    try:
        wait_until(lambda: _answers(port), 30)
        yield Server(port, [psutil.Process(process.pid)])
    finally:
        process.terminate()
        process.wait(15)


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).is_success
    except httpx.TransportError:
        return False


def measure(stack: Stack, people: People, say: Callable[[str], None]) -> list[Measure]:
    """All ratios, then the rate of events. Raises Failed."""
    api = Server(urlsplit(stack.api).port or 0, processes(stack, "api"))
    found: list[Measure] = []
    posts = [people.create_post(POSTS_A_ROUND) for _ in range(ROUNDS)]
    with trivial_endpoint() as yardstick, standing_still(stack, *STANDING_STILL):
        yardsticks: list[float] = []
        for name, budget, make in READS_AND_WRITES:
            say(name)
            requests = deque(make(people))
            _send(api, requests, 0.5)
            # As on a server that has run for a while: until a table is looked at, plans are those for an empty one.
            with db.connection() as conn:
                _ANALYZE.run(conn)
            rounds = [
                (_send(yardstick, _TRIVIAL, TRIVIAL_SECONDS), _send(api, requests, SECONDS)) for _ in range(ROUNDS)
            ]
            found.append(_ratio(name, rounds, budget, _trips(api.port, requests[0])))
            yardsticks += [trivial.tally.per_second for trivial, _ in rounds]
        say("create_post")
        rounds = [(_send(yardstick, _TRIVIAL, TRIVIAL_SECONDS), _send(api, deque(batch), once=True)) for batch in posts]
        found.append(_ratio("create_post", rounds, None, ""))
    found.insert(0, Measure("trivial", median(yardsticks), "requests/s"))
    say("events")
    return [*found, _events(stack)]


_ANALYZE = db.Statement("ANALYZE")
_TRIVIAL = deque([load.request("GET", "/")])


def _send(server: Server, requests: deque[bytes], seconds: float = 0.0, *, once: bool = False) -> Sent:
    """Load, and leave the requests so that the next load goes on behind this one: a follow is not one already made."""
    cpu = -server.cpu()
    tally = load.apply(server.port, requests, seconds=seconds, once=once)
    cpu += server.cpu()
    requests.rotate(-tally.requests)
    if bad := {status: count for status, count in tally.statuses.items() if not 200 <= status < 300}:
        raise Failed(f"{requests[0].splitlines()[0].decode()}: answered {bad} of {tally.requests}")
    return Sent(tally, cpu / tally.requests * 1_000_000)


def _ratio(name: str, rounds: list[tuple[Sent, Sent]], budget: float | None, trips: str) -> Measure:
    ratio = median(trivial.cpu / own.cpu for trivial, own in rounds)
    to_rate = median(own.tally.per_second / trivial.tally.per_second for trivial, own in rounds)
    rate, p50, p99 = (median(getattr(own.tally, what) for _, own in rounds) for what in ("per_second", "p50", "p99"))
    cpu = median(own.cpu for _, own in rounds)
    detail = (
        f"{rate:,.0f} requests/s = {to_rate:.2f} × trivial, p50 {p50:.1f} ms, p99 {p99:.1f} ms, CPU {cpu:.0f} µs{trips}"
    )
    return Measure(name, ratio, "of trivial", budget, detail=detail, cpu_us=cpu, rate_of_trivial=to_rate)


def _trips(port: int, request: bytes) -> str:
    """The round trips of a request that was made before, by its Server-Timing."""
    lines, _, body = request.partition(b"\r\n\r\n")
    head, *fields = lines.decode().split("\r\n")
    method, path, _ = head.split()
    headers = dict(field.split(": ", 1) for field in fields)
    answer = httpx.request(method, f"http://127.0.0.1:{port}{path}", headers=headers, content=body, trust_env=False)
    by_store = dict(re.findall(r'(\w+);[^,]*?desc="(\d+) trips', answer.headers.get("server-timing", "")))
    return f", trips {by_store.get('redis', 0)} + {by_store.get('postgres', 0)}"


def _events(stack: Stack) -> Measure:
    """What was written is told now: events handled a second of CPU that relay and background take for it."""
    ours = [process for part in ("relay", "background") for process in processes(stack, part)]
    log = stack.data / "logs" / "background.log"
    start, began = log.stat().st_size, time.monotonic()
    cpu = -sum(sum(process.cpu_times()[:2]) for process in ours)
    time.sleep(DRAIN_SECONDS)
    cpu += sum(sum(process.cpu_times()[:2]) for process in ours)
    took = time.monotonic() - began
    with log.open("rb") as file:
        file.seek(start)
        handled = len(HANDLED.findall(file.read()))
    detail = f"{handled / took:,.0f}/s beside broker, stores and graph on all cores"
    return Measure("events relayed and handled", handled / cpu, "/s per core", 800, detail=detail)
