"""Uploads in parts, and uploads that a crash or a lost connection cuts short."""

import io
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from infra.local.storage_signer import Verifier, make_signer
from tests.local.storage_emulator import (
    HEADERS,
    HTTP,
    ORIGIN,
    QUANTUM,
    REPOSITORY,
    Emulator,
    code_of,
    eventually,
    start,
)
from tests.local.storage_emulator import emulator as emulator
from tests.local.storage_emulator import own as own
from tests.local.storage_emulator import signer as signer


class Unsized(io.BytesIO):
    """Of which the client can't tell the length: it sends parts of `…/*`."""

    def seekable(self) -> bool:
        return False


def test_the_clients_resumable_upload(emulator: Emulator) -> None:
    content = os.urandom(5 * QUANTUM + 11)
    blob = emulator.bucket().blob("resumable/client", chunk_size=2 * QUANTUM)
    blob.upload_from_file(Unsized(content), content_type="video/mp4")
    assert blob.download_as_bytes() == content
    session = emulator.bucket().blob("resumable/session").create_resumable_upload_session("video/mp4", len(content))
    assert session
    assert HTTP.put(session, content=content).json()["size"] == str(len(content))


def signed_session(emulator: Emulator, name: str, headers: dict[str, str]) -> str:
    given = headers | {"x-goog-resumable": "start"}
    started = HTTP.post(emulator.sign(name, given, "POST"), headers=given | {"Origin": ORIGIN})
    assert started.status_code == 201
    assert "Location" in started.headers["access-control-expose-headers"]
    return started.headers["location"]


def test_a_signed_upload_in_parts_survives_a_lost_connection_and_a_restart(own: Emulator) -> None:
    headers = HEADERS | {"x-goog-content-length-range": "1,2000000"}
    content = os.urandom(4 * QUANTUM)
    session = signed_session(own, "parts", headers)

    def how_far(url: str) -> str | None:
        asked = HTTP.put(url, headers={"Content-Range": f"bytes */{len(content)}"})
        assert asked.status_code == 308
        return asked.headers.get("range")

    assert how_far(session) is None
    first = HTTP.put(session, content=content[:QUANTUM], headers={"Content-Range": f"bytes 0-{QUANTUM - 1}/*"})
    assert (first.status_code, first.headers["range"]) == (308, f"bytes=0-{QUANTUM - 1}")

    parts = urlsplit(session)
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as broken:
        head = f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        head += (
            f"Content-Range: bytes {QUANTUM}-{4 * QUANTUM - 1}/{4 * QUANTUM}\r\nContent-Length: {3 * QUANTUM}\r\n\r\n"
        )
        broken.sendall(head.encode() + content[QUANTUM : 2 * QUANTUM + 5])
        broken.shutdown(socket.SHUT_WR)
        while broken.recv(1024):
            pass
    held = how_far(session)
    assert held in (f"bytes=0-{QUANTUM - 1}", f"bytes=0-{2 * QUANTUM - 1}")  # what was read before the end was seen
    following = int(held.split("-")[1]) + 1

    own.process.kill()
    own.process.wait()
    again = start(own.folder, own.signer)
    own.process = again.process
    session = session.replace(own.url, again.url)
    assert how_far(session) == held
    last = {"Content-Range": f"bytes {following}-{4 * QUANTUM - 1}/{4 * QUANTUM}"}
    assert HTTP.put(session, content=content[following:], headers=last).status_code == 200
    assert HTTP.put(session, headers={"Content-Range": f"bytes */{len(content)}"}).status_code == 200
    assert HTTP.get(f"{again.url}/media/parts").content == content


def test_the_size_of_an_upload_in_parts_is_bound_too(own: Emulator) -> None:
    headers = HEADERS | {"x-goog-content-length-range": f"10,{QUANTUM}"}
    attempts = {
        "declared": (b"x" * 16, f"bytes 0-15/{QUANTUM + 1}", "EntityTooLarge"),
        "streamed": (b"x" * 2 * QUANTUM, f"bytes 0-{2 * QUANTUM - 1}/*", "EntityTooLarge"),
        "small": (b"x" * 9, "bytes 0-8/9", "EntityTooSmall"),
        "lying": (b"x" * 50, "bytes 0-39/40", "EntityTooLarge"),
        "short": (b"x" * 30, "bytes 0-39/40", "InvalidArgument"),
    }
    for name, (content, content_range, code) in attempts.items():
        session = signed_session(own, name, headers)
        response = HTTP.put(session, content=content, headers={"Content-Range": content_range})
        assert (response.status_code, code_of(response)) == (400, code)
        assert HTTP.put(session, content=b"x" * 20).status_code == 404
    session = signed_session(own, "unreadable", headers)
    for odd in ("bytes 5-1/9", "bytes a-b/c", "bytes 0-9/9", "items 0-1/2"):
        assert HTTP.put(session, content=b"x" * 9, headers={"Content-Range": odd}).status_code == 400
    assert HTTP.delete(session).status_code == 204
    assert list(own.bucket().list_blobs()) == []
    assert own.files() == []


def test_an_upload_in_parts_cannot_replace_what_came_meanwhile(emulator: Emulator) -> None:
    session = signed_session(emulator, "meanwhile", HEADERS)
    assert HTTP.put(emulator.sign("meanwhile", HEADERS), content=b"12345", headers=HEADERS).status_code == 200
    assert HTTP.put(session, content=b"67890").status_code == 412
    assert HTTP.get(f"{emulator.url}/media/meanwhile").content == b"12345"


def test_a_kill_during_an_upload_leaves_nothing(own: Emulator) -> None:
    own.bucket().blob("before").upload_from_string(b"kept")
    url = urlsplit(own.sign("half", {"Content-Type": "video/mp4"}))
    with socket.create_connection((url.hostname or "", url.port or 0)) as connection:
        head = f"PUT {url.path}?{url.query} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: video/mp4\r\n"
        head += "Content-Length: 8000000\r\nExpect: 100-continue\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(1024).startswith(b"HTTP/1.1 100")
        connection.sendall(b"x" * 4_000_000)
        eventually(lambda: sum(file.stat().st_size for file in own.files()) > 1_000_000)
        own.process.send_signal(signal.SIGKILL)
        own.process.wait()
    again = start(own.folder, own.signer)
    own.process = again.process
    assert [blob.name for blob in again.bucket().list_blobs()] == ["before"]
    assert HTTP.get(f"{again.url}/media/half").status_code == 404
    assert HTTP.get(f"{again.url}/media/before").content == b"kept"
    assert len(again.files()) == 1


def test_a_lost_connection_leaves_nothing(own: Emulator) -> None:
    url = urlsplit(own.sign("half", {"Content-Type": "video/mp4"}))
    with socket.create_connection((url.hostname or "", url.port or 0)) as connection:
        head = f"PUT {url.path}?{url.query} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: video/mp4\r\n"
        connection.sendall(head.encode() + b"Content-Length: 8000000\r\n\r\n" + b"x" * 2_000_000)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1024):
            pass
    eventually(lambda: own.files() == [])
    assert own.bucket().get_blob("half") is None


def test_two_cannot_share_a_folder(own: Emulator) -> None:
    command = [sys.executable, "-m", "infra.local.storage", "--port", "0", "--data", str(own.folder)]
    command += ["--signer", str(own.signer), "--bucket", "media"]
    second = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=30)
    assert second.returncode == 1
    assert second.stderr.splitlines() == [f"storage: another process serves {own.folder}"]


def test_a_wrong_signer_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "signer.json").write_text('{"client_email": "a"}')
    command = [sys.executable, "-m", "infra.local.storage", "--port", "0", "--data", str(tmp_path / "s")]
    command += ["--signer", str(tmp_path / "signer.json"), "--bucket", "media"]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1


def test_bytes_that_are_no_http_leave_it_serving(emulator: Emulator) -> None:
    address = urlsplit(emulator.url)
    for junk in (b"\x00\xff\xfe\r\n\r\n", b"GET\r\n\r\n", b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n"):
        with socket.create_connection((address.hostname or "", address.port or 0)) as connection:
            connection.sendall(junk)
            assert connection.recv(4096).startswith(b"HTTP/1.")
    assert HTTP.get(f"{emulator.url}/healthz").json() == {"status": "ok"}


def test_the_signer_file_is_its_owners_alone(tmp_path: Path) -> None:
    make_signer(tmp_path / "new" / "signer.json")
    path = tmp_path / "new" / "signer.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["client_email"] == Verifier.load(path).email
    assert [file.name for file in path.parent.iterdir()] == ["signer.json"]
