"""A storage emulator for the tests: started as the local stack starts it, asked as a browser would."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage as gcs
from google.cloud.storage._signing import generate_signed_url_v4
from google.oauth2.service_account import Credentials

from infra.local.storage_signer import make_signer

REPOSITORY = Path(__file__).parents[2]
ORIGIN = "http://app.example"
HTTP = httpx.Client()
QUANTUM = 256 * 1024  # what the parts of a resumable upload are multiples of


@dataclass
class Emulator:
    """A running emulator, and who may sign for it."""

    process: subprocess.Popen[str]
    url: str
    folder: Path
    signer: Path

    def client(self) -> gcs.Client:
        return gcs.Client("test", AnonymousCredentials(), client_options={"api_endpoint": self.url})

    def bucket(self) -> gcs.Bucket:
        return self.client().bucket("media")

    def sign(self, name: str, headers: dict[str, str] | None = None, method: str = "PUT", **more: Any) -> str:
        path = f"/media/{name}"
        options: dict[str, Any] = {"expiration": 900, "headers": dict(headers or {}), "method": method} | more
        return generate_signed_url_v4(_credentials(self.signer), path, api_access_endpoint=self.url, **options)

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(10) == 0

    def files(self) -> list[Path]:
        return [f for part in ("incoming", "blobs") for f in (self.folder / part).rglob("*") if f.is_file()]


@cache
def _credentials(file: Path) -> Credentials:
    return Credentials.from_service_account_file(file)


def start(folder: Path, signer: Path) -> Emulator:
    command = [sys.executable, "-m", "infra.local.storage", "--port", "0", "--data", str(folder)]
    command += ["--signer", str(signer), "--bucket", "media", "--private-bucket", "media-private"]
    command += ["--cors-origin", f"http://localhost:4000,{ORIGIN}"]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert "listens on" in line, "it did not start"
    return Emulator(process, line.split()[-1], folder, signer)


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("signer") / "signer.json"
    make_signer(path)
    return path


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory, signer: Path) -> Iterator[Emulator]:
    running = start(tmp_path_factory.mktemp("storage"), signer)
    yield running
    running.stop()


@pytest.fixture
def own(tmp_path: Path, signer: Path) -> Iterator[Emulator]:
    """An emulator for this test alone, which it may kill."""
    running = start(tmp_path / "storage", signer)
    yield running
    running.process.kill()
    running.process.wait()


HEADERS = {
    "Content-Type": "image/png",
    "x-goog-content-length-range": "4,1000",
    "x-goog-if-generation-match": "0",
}


def code_of(response: httpx.Response) -> str:
    assert response.headers["content-type"].startswith("application/xml")
    found = re.search("<Code>(.*)</Code>", response.text)
    assert found
    return found[1]


def eventually(holds: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until it holds; fail when it doesn't in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)
