"""`python -m infra.local.storage`: Cloud Storage for a developer's machine, over HTTP on the loopback interface.

Where it answers, it answers as the real one would: it refuses a wrong signature, type or size, an expired URL, a taken
name. What was answered with success is on the disk. `GET /healthz` says that it serves.
"""

import argparse
import asyncio
import base64
import fcntl
import ipaddress
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from infra.local.storage_batch import PATH as BATCH
from infra.local.storage_batch import batch
from infra.local.storage_blobs import Blobs
from infra.local.storage_errors import StorageError, access_denied
from infra.local.storage_index import Index
from infra.local.storage_json import ROOTS, Json, refuse_browsers, reply
from infra.local.storage_signer import Verifier
from infra.local.storage_uploads import UPLOAD_SECONDS, Uploads
from infra.local.storage_xml import Xml, cors

log = logging.getLogger("storage")
_DRAIN_SECONDS = 5


class Emulator:
    """All of it, behind one handler."""

    def __init__(
        self,
        folder: Path,
        verifier: Verifier,
        origins: frozenset[str],
        private: frozenset[str] = frozenset(),
        cdn_keys: Mapping[str, bytes] | None = None,
    ):
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(folder / "lock")
        self.blobs = Blobs(folder)
        self.index = Index(folder / "index.sqlite3")
        self.blobs.sweep(self.index.live_uploads(UPLOAD_SECONDS), self.index.blobs())
        uploads = Uploads(self.index, self.blobs)
        self._xml = Xml(self.index, self.blobs, uploads, verifier, private, cdn_keys)
        self._json = Json(self.index, self.blobs, uploads)
        self._origins = origins

    def close(self) -> None:
        """When nothing runs any more."""
        self.index.close()
        self._lock.close()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Every request comes here. Never raises."""
        started = time.perf_counter()
        path, _, query = _target(request.raw_path).partition("?")
        is_json = path.startswith((*ROOTS, BATCH))
        if not is_json:
            request["cors"] = cors(request, self._origins)
        try:
            response = await self._answer(request, path, query, is_json)
        except ConnectionError:
            response = web.Response(status=499, reason="Client Closed Request")  # for the log: nobody is there to read
        except Exception as error:
            refusal = _refusal(error)
            if not isinstance(error, StorageError | TimeoutError | aiohttp.ClientError):
                log.exception("%s %s failed", request.method, path)
            response = (
                reply(refusal.json(), refusal.status)
                if is_json
                else web.Response(body=refusal.xml(), status=refusal.status, content_type="application/xml")
            )
        if not response.prepared:
            response.headers.update(request.get("cors", {}))
        taken = (time.perf_counter() - started) * 1000
        level = logging.DEBUG if path == "/healthz" else logging.INFO
        log.log(level, "%s %s %d %.1f ms", request.method, path[:200], response.status, taken)
        return response

    async def _answer(self, request: web.BaseRequest, path: str, query: str, is_json: bool) -> web.StreamResponse:
        if not _is_loopback(request.host):  # else a page could reach us by rebinding its own name
            raise access_denied("The Host is not this machine.")
        if path == "/healthz":
            await self.index.call(self.index.buckets)
            return reply({"status": "ok"})
        if is_json:
            refuse_browsers(request)
            if path.startswith(BATCH):
                return await batch(request, self._json)
            return await self._json.answer(request, path, query)
        return await self._xml.answer(request, path, query)


def _refusal(error: Exception) -> StorageError:
    """What to tell the client. Anything unforeseen is our fault, and says nothing of itself."""
    if isinstance(error, StorageError):
        return error
    if isinstance(error, aiohttp.ClientError):
        return StorageError(400, "IncompleteBody", "The body of the request can't be read.")
    if isinstance(error, TimeoutError):
        return StorageError(408, "RequestTimeout", "Your socket connection was idle for too long.")
    if isinstance(error, OSError):
        return StorageError(503, "ServiceUnavailable", "The disk can't be written.", error.strerror or "")
    return StorageError(500, "InternalError", "We encountered an internal error. Please try again.")


def _target(raw: str) -> str:
    """The path and query of a request line, also of one in absolute form."""
    if raw.startswith("/"):
        return raw
    _, _, rest = raw.partition("://")
    return "/" + rest.partition("/")[2]


def _is_loopback(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _cdn_keys() -> dict[str, bytes]:
    """The keys of MEDIA_KEYS (shared/kernel/config.py): in the environment, where other processes don't see them."""
    pairs = [pair.strip().partition(":") for pair in os.environ.get("MEDIA_KEYS", "").split(",") if pair.strip()]
    return {name: base64.urlsafe_b64decode(key + "=" * (-len(key) % 4)) for name, _, key in pairs}


def _lock(file: Path) -> TextIO:
    """Held while the process lives: two on one folder would sweep each other's files. Raises BlockingIOError."""
    handle = file.open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        raise
    return handle


async def serve(emulator: Emulator, host: str, port: int, buckets: list[str]) -> None:
    """Until SIGTERM or SIGINT; what runs then may finish."""
    for bucket in buckets:
        try:
            emulator.index.create_bucket(bucket, {})
        except StorageError as error:
            if error.status != 409:
                raise
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    server = web.Server(emulator.handle, access_log=None, auto_decompress=False)
    runner = web.ServerRunner(server, shutdown_timeout=_DRAIN_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        bound = runner.addresses[0]
        print(f"storage listens on http://{bound[0]}:{bound[1]}", flush=True)
        await ending.wait()
    finally:
        await runner.cleanup()


def main() -> None:
    """Read the arguments and serve; what can't start ends with one line."""
    parser = argparse.ArgumentParser(prog="python -m infra.local.storage", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True, help="0 = a free one, printed")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--signer", type=Path, required=True, metavar="FILE", help="a service-account file")
    parser.add_argument("--bucket", required=True, metavar="NAME", help="made if it isn't there")
    parser.add_argument("--private-bucket", nargs="*", default=[], metavar="NAME", help="made too; none may read it")
    parser.add_argument("--cors-origin", nargs="*", action="extend", default=[], metavar="URL", help="also with commas")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    origins = frozenset(origin.strip().rstrip("/") for origin in ",".join(options.cors_origin).split(",")) - {""}
    try:
        if not _is_loopback(options.host):
            raise ValueError(f"--host {options.host}: it serves this machine alone")
        private = frozenset(options.private_bucket)
        emulator = Emulator(options.data, Verifier.load(options.signer), origins, private, _cdn_keys())
    except BlockingIOError:
        sys.exit(f"storage: another process serves {options.data}")
    except (OSError, ValueError) as error:
        sys.exit(f"storage: {error}")
    try:
        asyncio.run(serve(emulator, options.host, options.port, [options.bucket, *sorted(private)]))
    except StorageError as error:
        sys.exit(f"storage: --bucket: {error.message}")
    except OSError as error:
        sys.exit(f"storage: {error.strerror}")
    finally:
        emulator.close()


if __name__ == "__main__":
    main()
