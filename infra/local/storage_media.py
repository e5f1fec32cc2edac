"""Reading an object's bytes, the same for both APIs: one range, ETag, and the headers that Cloud Storage sends."""

import asyncio
import base64
import os
import re
from datetime import datetime
from email.utils import format_datetime
from urllib.parse import quote

from aiohttp import web

from infra.local.storage_blobs import Blobs
from infra.local.storage_errors import StorageError, no_such_key
from infra.local.storage_index import Conditions, Index, Resource

_PIECE = 256 * 1024


async def serve(
    request: web.BaseRequest, index: Index, blobs: Blobs, bucket: str, name: str, conditions: Conditions
) -> web.StreamResponse:
    """Answer a GET or HEAD, `Range`, `If-Range` and `If-None-Match` heeded. Raises StorageError 404, 412 or 416."""
    resource, blob = await index.call(index.get, bucket, name, conditions)
    headers = object_headers(resource)
    if _names(request.headers.get("If-None-Match", ""), headers["ETag"]):
        return web.Response(status=304, headers=headers)
    size = int(resource["size"])
    first, last = _range(request, headers["ETag"], size)
    partial = (first, last) != (0, size - 1)
    if partial:
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    response = web.StreamResponse(status=206 if partial else 200, headers=headers)
    response.content_length = last - first + 1
    response.headers.update(request.get("cors", {}))
    try:
        fd = os.open(blobs.path(blob), os.O_RDONLY)
    except FileNotFoundError:  # deleted since we asked
        raise no_such_key(bucket, name) from None
    try:
        await response.prepare(request)
        if request.method != "HEAD":
            while first <= last:
                piece = await asyncio.to_thread(os.pread, fd, min(_PIECE, last - first + 1), first)
                await response.write(piece)
                first += len(piece)
        await response.write_eof()
    finally:
        os.close(fd)
    return response


def object_headers(resource: Resource) -> dict[str, str]:
    """Of an object, but for its length."""
    md5 = base64.b64decode(resource["md5Hash"]).hex()
    updated = datetime.fromisoformat(resource["timeCreated"])
    headers = {
        "Content-Type": resource["contentType"],
        "Cache-Control": resource.get("cacheControl", "public, max-age=3600"),
        "ETag": f'"{md5}"',
        "Last-Modified": format_datetime(updated, usegmt=True),
        "Accept-Ranges": "bytes",
        "X-Content-Type-Options": "nosniff",
        "x-goog-generation": resource["generation"],
        "x-goog-metageneration": resource["metageneration"],
        "x-goog-hash": f"crc32c={resource['crc32c']},md5={resource['md5Hash']}",
        "x-goog-stored-content-length": resource["size"],
        "x-goog-storage-class": resource["storageClass"],
    }
    for field, header in (
        ("contentDisposition", "Content-Disposition"),
        ("contentEncoding", "Content-Encoding"),
        ("contentLanguage", "Content-Language"),
    ):
        if field in resource:
            headers[header] = resource[field]
    for key, value in resource.get("metadata", {}).items():
        headers[f"x-goog-meta-{key}"] = quote(value, safe=" !#$&'()*+,/:;=?@[]~")
    return headers


def _names(field: str, etag: str) -> bool:
    """Whether an If-None-Match names this entity."""
    tags = [tag.strip().removeprefix("W/") for tag in field.split(",")]
    return etag in tags or tags == ["*"]


def _range(request: web.BaseRequest, etag: str, size: int) -> tuple[int, int]:
    """First and last byte to send. Several ranges, or what can't be read, are ignored, as RFC 9110 14.2 allows."""
    found = re.fullmatch(r"bytes=([0-9]{0,15})-([0-9]{0,15})", request.headers.get("Range", "").replace(" ", ""))
    if found is None or not (found[1] or found[2]) or request.headers.get("If-Range", etag) != etag:
        return 0, size - 1
    if not found[1]:
        first, last = max(0, size - int(found[2])), size - 1
    else:
        first, last = int(found[1]), min(int(found[2] or size), size - 1)
        if found[2] and int(found[2]) < first:
            return 0, size - 1
    if first >= size:
        raise StorageError(416, "InvalidRange", "The requested range cannot be satisfied.", request.headers["Range"])
    return first, last
