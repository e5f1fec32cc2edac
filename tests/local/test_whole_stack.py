"""`./dev up`, all of it: ready, and whole again whatever process is killed."""

import json
import os
import signal
import time

import httpx
import psutil
import pytest

from infra.local import leftovers, plan, ports
from infra.local.stack import Run

READY_SECONDS = 20.0
PARTS = ("postgres", "valkey", "graph", "pubsub", "storage", "console", "api", "background", "live", "relay")


@pytest.mark.timeout(300)
def test_all_of_it_is_ready_and_comes_back_whatever_is_killed():
    # Before, since what is done here makes a load of its own.
    load = os.getloadavg()[0]
    began = time.monotonic()
    run = Run(["--ephemeral"])
    try:
        stack = run.ready()
        took = time.monotonic() - began
        assert set(stack.pids) == {*PARTS, "supervisor"}
        assert httpx.get(f"{stack.api}/readyz").is_success
        assert "items" in httpx.get(f"{stack.console}/events.json").json()
        assert httpx.get(f"{stack.console}/docs").is_success
        mine = [process for process in psutil.process_iter() if leftovers.is_of(process, stack.data)]
        listening = {c.laddr for p in mine for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN}
        assert {address.ip for address in listening} <= {"127.0.0.1", "::ffff:127.0.0.1"}
        assert len(listening) == len(ports.PREFERRED)
        for name in PARTS:
            os.kill(stack.pids[name], signal.SIGKILL)
            run.said(f"{name} was killed by SIGKILL")
            run.said(f"{name} runs again")
            assert (stack.data / "logs" / f"{name}.log").exists()
        assert httpx.get(f"{stack.api}/readyz").is_success
        again = stack.reread()
        assert all(again.pids[name] != stack.pids[name] for name in PARTS)
        assert run.process.poll() is None
    finally:
        code = run.stop()
    assert code == 0
    assert [process for process in psutil.process_iter() if leftovers.is_of(process, stack.data)] == []
    assert all(ports.is_free(address.port) for address in listening)
    print(json.dumps({"ready_seconds": round(took, 1), "processors": os.cpu_count(), "load": round(load, 1)}))
    assert took < READY_SECONDS or load > (os.cpu_count() or 1) * 2, f"{took:.1f} s at a load of {load:.1f}"


def test_every_part_can_be_asked_for_alone_and_brings_what_it_needs(tmp_path):
    secrets: dict[str, str] = dict.fromkeys(
        ("postgres", "database", "valkey", "graph", "token_keys", "cookie_keys", "media_keys"), "x"
    )
    for part in (*PARTS, "migrate", "wire"):
        planned = plan.make(tmp_path, ports.PREFERRED, secrets, [part])
        names = {service.name for service in planned.services}
        assert part in names
        assert all(need in names for service in planned.services for need in service.needs)
