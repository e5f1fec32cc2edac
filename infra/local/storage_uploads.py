"""Uploads, whole or in parts (resumable), the same for both APIs: https://cloud.google.com/storage/docs/resumable-uploads."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from weakref import WeakValueDictionary

import msgspec
from aiohttp import web

from infra.local.storage_blobs import Blobs, new_id
from infra.local.storage_errors import StorageError, invalid, no_such_upload, too_large, too_small
from infra.local.storage_index import Conditions, Index, Resource

QUANTUM = 256 * 1024  # parts but the last are kept in multiples of this
_IDLE_SECONDS = 60
UPLOAD_SECONDS = 7 * 24 * 3600  # how long a resumable upload may be resumed


@dataclass(frozen=True)
class Wanted:
    """What an upload is to become. Sizes in bytes; `most` None = any, `md5` and `crc32c` in base64 or ""."""

    bucket: str
    name: str
    given: Resource = field(default_factory=dict)
    conditions: Conditions = field(default_factory=Conditions)
    least: int = 0
    most: int | None = None
    md5: str = ""
    crc32c: str = ""


@dataclass(frozen=True)
class Held:
    """A resumable upload that isn't complete: the bytes kept so far."""

    received: int


class Uploads:
    """Takes bytes in, and makes objects of them."""

    def __init__(self, index: Index, blobs: Blobs):
        self._index = index
        self._blobs = blobs
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def whole(self, request: web.BaseRequest, wanted: Wanted, chunks: AsyncIterator[bytes]) -> Resource:
        """One object from `chunks` of the request's body. Raises StorageError; then nothing has changed."""
        await self._index.call(self._index.check, wanted.bucket, wanted.name, wanted.conditions)
        id = new_id()
        await proceed(request)
        try:
            size = await self._blobs.receive(id, chunks, wanted.most)
        except BaseException:
            self._blobs.discard(id)
            raise
        return await self._finish(id, size, wanted)

    async def start(self, wanted: Wanted) -> str:
        """The id of a new resumable upload. Raises StorageError 400, 404 or 412."""
        await self._index.call(self._index.check, wanted.bucket, wanted.name, wanted.conditions)
        id = new_id()
        await self._index.call(self._index.start_upload, id, asdict(wanted))
        return id

    async def cancel(self, id: str) -> None:
        """End a resumable upload. Raises StorageError 404."""
        async with self._lock(id):
            if await self._index.call(self._index.upload, id) is None:
                raise no_such_upload()
            await self._drop(id)

    async def part(self, request: web.BaseRequest, id: str, bucket: str) -> Resource | Held:
        """Take what the request brings, by its Content-Range. The object once it is complete. Raises StorageError."""
        async with self._lock(id):
            found = await self._index.call(self._index.upload, id)
            if found is None or found[0]["bucket"] != bucket:
                raise no_such_upload()
            stored, received, result = found
            if result is not None:
                return result
            wanted = msgspec.convert(stored, Wanted)
            first, last, total = _content_range(request)
            if wanted.most is not None and max(total or 0, (last or -1) + 1) > wanted.most:
                await self._drop(id)
                raise too_large(wanted.most)
            if first is not None and first != received:
                return Held(received)  # the client goes on from there
            if first is not None:
                received = await self._take(request, id, wanted, received, last, total)
            if total is None or received < total:
                return Held(received)
            return await self._finish_part(id, received, wanted)

    async def _take(
        self, request: web.BaseRequest, id: str, wanted: Wanted, received: int, last: int | None, total: int | None
    ) -> int:
        """Write the body behind what is there; the bytes kept then, also noted in the index if the body breaks off."""
        end = None if last is None else last + 1
        limits = [limit for limit in (end, total, wanted.most) if limit is not None]
        await proceed(request)
        try:
            size = await self._blobs.receive(id, body(request), min(limits, default=None), received)
            if end is not None and size != end:
                raise invalid("The body is not as long as Content-Range says.")
            if total is None and last is None:
                raise invalid("The length of the upload is not known.")
            kept = size if size == total else size - size % QUANTUM
        except StorageError:
            await self._drop(id)
            raise
        except Exception:
            size = self._blobs.incoming(id).stat().st_size
            await self._index.call(self._index.advance_upload, id, size - size % QUANTUM, None)
            raise
        await self._index.call(self._index.advance_upload, id, kept, None)
        return kept

    async def _finish_part(self, id: str, size: int, wanted: Wanted) -> Resource:
        if size == 0:
            self._blobs.incoming(id).touch()
        try:
            resource = await self._finish(id, size, wanted)
        except StorageError:
            await self._drop(id)
            raise
        await self._index.call(self._index.advance_upload, id, size, resource)
        return resource

    async def _finish(self, id: str, size: int, wanted: Wanted) -> Resource:
        try:
            if size < wanted.least:
                raise too_small(wanted.least)
            blob = await self._blobs.complete(id, wanted.md5, wanted.crc32c)
            put = self._index.put
            resource, replaced = await self._index.call(
                put, wanted.bucket, wanted.name, blob, wanted.given, wanted.conditions
            )
        except StorageError:
            self._blobs.discard(id)
            raise
        self._blobs.discard(replaced)
        return resource

    async def _drop(self, id: str) -> None:
        await self._index.call(self._index.drop_upload, id)
        self._blobs.discard(id)

    def _lock(self, id: str) -> asyncio.Lock:
        lock = self._locks.get(id)
        if lock is None:
            lock = self._locks[id] = asyncio.Lock()
        return lock


async def body(request: web.BaseRequest) -> AsyncIterator[bytes]:
    """The request's body as it comes. Raises TimeoutError when nothing comes any more."""
    while True:
        async with asyncio.timeout(_IDLE_SECONDS):
            chunk = await request.content.readany()
        if not chunk:
            return
        yield chunk


async def proceed(request: web.BaseRequest) -> None:
    """Tell a client that waits for it (`Expect: 100-continue`, curl's way) to send its body."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0


def _content_range(request: web.BaseRequest) -> tuple[int | None, int | None, int | None]:
    """First and last byte and the total, None where not said: RFC 9110 14.4, with `*` as the total while unknown.

    No Content-Range is the whole object. (None, None, …) only asks how far the upload is. Raises StorageError 400.
    """
    text = request.headers.get("Content-Range")
    if text is None:
        length = request.content_length
        if length is None:
            raise StorageError(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
        return 0, None, length
    found = re.fullmatch(r"bytes (?:([0-9]{1,15})-([0-9]{1,15})|\*)/([0-9]{1,15}|\*)", text)
    if found is None:
        raise invalid("Content-Range can't be read.")
    first, last = (int(found[1]), int(found[2])) if found[1] else (None, None)
    total = None if found[3] == "*" else int(found[3])
    if first is not None and last is not None and (last < first or (total is not None and last >= total)):
        raise invalid("Content-Range contradicts itself.")
    return first, last, total
