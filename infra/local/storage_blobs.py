"""The bytes of objects: files under random names, complete or not there.

A file arrives in `incoming/`, is synced, and only then moved to `blobs/`; the index names it last. What a crash leaves
in between is named by nobody, and `sweep` takes it away at the next start.
"""

import asyncio
import base64
import hashlib
import os
import secrets
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import google_crc32c

from infra.local.storage_errors import StorageError, too_large

_BUFFER = 1 << 20


class Blob(NamedTuple):
    """A complete file. Digests are base64, as the JSON API has them."""

    id: str
    size: int
    md5: str
    crc32c: str


class Blobs:
    """The two folders."""

    def __init__(self, folder: Path):
        self._incoming = folder / "incoming"
        self._blobs = folder / "blobs"
        for each in (self._incoming, self._blobs):
            each.mkdir(parents=True, exist_ok=True)

    def path(self, id: str) -> Path:
        """Where a complete blob lies."""
        return self._blobs / id

    def incoming(self, id: str) -> Path:
        """Where one arrives."""
        return self._incoming / id

    async def receive(self, id: str, chunks: AsyncIterator[bytes], most: int | None, offset: int = 0) -> int:
        """Write `chunks` from `offset` on, and sync. Returns the size then.

        If the chunks break off, what came lies there, and their error goes on. Raises StorageError 400 as soon as
        there are more than `most` bytes.
        """
        path = self.incoming(id)
        fd = await asyncio.to_thread(os.open, path, os.O_RDWR | os.O_CREAT, 0o600)
        size, buffer = offset, bytearray()
        try:
            os.ftruncate(fd, offset)
            try:
                async for chunk in chunks:
                    if most is not None and size + len(chunk) > most:
                        raise too_large(most)
                    size += len(chunk)
                    buffer += chunk
                    if len(buffer) >= _BUFFER:
                        await asyncio.to_thread(_write, fd, bytes(buffer), size - len(buffer))
                        buffer.clear()
            finally:
                await asyncio.to_thread(_write, fd, bytes(buffer), size - len(buffer))
                await asyncio.to_thread(os.fsync, fd)
        finally:
            os.close(fd)
        return size

    async def complete(self, id: str, md5: str = "", crc32c: str = "") -> Blob:
        """Move what arrived among the blobs. Raises StorageError 400 if it hasn't the digests that were promised."""
        return await asyncio.to_thread(self._complete, id, md5, crc32c)

    def _complete(self, id: str, md5: str, crc32c: str) -> Blob:
        arrived = self.incoming(id)
        blob = _digest(id, arrived)
        if (md5 and md5 != blob.md5) or (crc32c and crc32c != blob.crc32c):
            details = f"We calculated MD5 {blob.md5} and CRC32C {blob.crc32c}; you gave {md5} {crc32c}".rstrip() + "."
            raise StorageError(400, "BadDigest", "The digest you specified did not match what we received.", details)
        self._place(arrived, id)
        return blob

    async def copy(self, source: str) -> Blob:
        """The same bytes as a blob of their own."""
        return await asyncio.to_thread(self._copy, source)

    def _copy(self, source: str) -> Blob:
        id = new_id()
        shutil.copyfile(self.path(source), self.incoming(id))
        with self.incoming(id).open("rb") as file:
            os.fsync(file.fileno())
        blob = _digest(id, self.incoming(id))
        self._place(self.incoming(id), id)
        return blob

    def _place(self, arrived: Path, id: str) -> None:
        os.rename(arrived, self.path(id))
        _sync_folder(self._blobs)

    def discard(self, id: str) -> None:
        """Take it away, complete or not."""
        if id:
            self.path(id).unlink(missing_ok=True)
            self.incoming(id).unlink(missing_ok=True)

    def sweep(self, arriving: set[str], kept: set[str]) -> None:
        """Take away all but these; nothing may be arriving meanwhile."""
        for file in self._incoming.iterdir():
            if file.name not in arriving:
                file.unlink()
        for file in self._blobs.iterdir():
            if file.name not in kept:
                file.unlink()


def new_id() -> str:
    """A random name."""
    return secrets.token_hex(16)


def _write(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def _digest(id: str, path: Path) -> Blob:
    md5, crc32c, size = hashlib.md5(usedforsecurity=False), google_crc32c.Checksum(), 0
    with path.open("rb") as file:
        while piece := file.read(_BUFFER):
            md5.update(piece)
            crc32c.update(piece)
            size += len(piece)
    return Blob(id, size, base64.b64encode(md5.digest()).decode(), base64.b64encode(crc32c.digest()).decode())


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
