"""More instances of the live service, beside the stack's own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import httpx

from infra.local.ports import free_port
from infra.local.stack import ROOT, Stack
from tests.client import wait_until


class Instance(NamedTuple):
    """An instance: where its sockets are, and its process."""

    url: str
    process: "subprocess.Popen[bytes]"
    port: int


@contextmanager
def instance(stack: Stack, name: str = "second", port: int | None = None, **env: str) -> Iterator[Instance]:
    """Start an instance on the stack's stores, with these settings; it is killed at the end."""
    port = port or free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "realtime_service"],
        cwd=ROOT,
        env=os.environ | stack.env | {"PORT": str(port), "INSTANCE_ID": name} | env,
    )
    try:
        wait_until(lambda: _healthy(f"http://127.0.0.1:{port}/readyz"), 30)
        yield Instance(f"ws://127.0.0.1:{port}/v1/live", process, port)
    finally:
        process.kill()
        process.wait()


def _healthy(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.HTTPError:
        return False
