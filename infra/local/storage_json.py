"""The JSON API, as far as google-cloud-storage's client goes: https://cloud.google.com/storage/docs/json_api/v1.

It asks for no credentials, so it is for this machine's own processes: what a browser sends is refused.
"""

import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

import aiohttp
import msgspec
from aiohttp import web

from infra.local.storage_blobs import Blobs
from infra.local.storage_errors import StorageError, access_denied, invalid, method_not_allowed
from infra.local.storage_index import Conditions, Index, Resource, check_name
from infra.local.storage_listing import list_objects
from infra.local.storage_media import serve
from infra.local.storage_signatures import decode, parse_query
from infra.local.storage_uploads import Held, Uploads, Wanted, body
from infra.local.storage_xml import resume

METADATA_BYTES = 1 << 20
ROOTS = ("/storage/v1/", "/upload/storage/v1/", "/download/storage/v1/")
_BUCKETS = re.compile(r"/storage/v1/b")
_BUCKET = re.compile(r"/storage/v1/b/([^/]+)")
_OBJECTS = re.compile(r"/storage/v1/b/([^/]+)/o")
_OBJECT = re.compile(r"/(?:download/)?storage/v1/b/([^/]+)/o/([^/]+)")
_COPY = re.compile(r"/storage/v1/b/([^/]+)/o/([^/]+)/(?:copyTo|rewriteTo)/b/([^/]+)/o/([^/]+)")
_UPLOAD = re.compile(r"/upload/storage/v1/b/([^/]+)/o")


class Call(NamedTuple):
    """A request to the JSON API that isn't about bytes. `path` is as on the wire."""

    method: str
    path: str
    query: Mapping[str, str]
    given: Resource


class Json:
    """Answers what came to a path of the JSON API."""

    def __init__(self, index: Index, blobs: Blobs, uploads: Uploads):
        self._index = index
        self._blobs = blobs
        self._uploads = uploads

    async def answer(self, request: web.BaseRequest, path: str, query: str) -> web.StreamResponse:
        """`path` and `query` as on the wire. Raises StorageError."""
        parameters = dict(parse_query(query))
        if found := _UPLOAD.fullmatch(path):
            return await self._upload(request, decode(found[1]), path, parameters)
        found = _OBJECT.fullmatch(path)
        if found and request.method == "GET" and parameters.get("alt") == "media":
            bucket, name = (decode(part) for part in found.groups())
            return await serve(request, self._index, self._blobs, bucket, name, _conditions(parameters))
        given = _map(await small_body(request))
        outcome = await self.call(Call(request.method, path, parameters, given), f"http://{request.host}")
        return web.Response(status=204) if outcome is None else reply(outcome)

    async def call(self, call: Call, origin: str) -> Resource | None:
        """What a call about metadata answers; None = nothing (204). Raises StorageError."""
        if _BUCKETS.fullmatch(call.path):
            return await self._buckets(call)
        if found := _BUCKET.fullmatch(call.path):
            return await self._bucket(call, decode(found[1]))
        if found := _OBJECTS.fullmatch(call.path):
            if call.method != "GET":
                raise method_not_allowed()
            page = await self._index.call(list_objects, self._index, decode(found[1]), call.query)
            return page | {"items": [with_links(item, origin) for item in page["items"]]}
        if found := _COPY.fullmatch(call.path):
            return await self._copy(call, [decode(part) for part in found.groups()], origin)
        if found := _OBJECT.fullmatch(call.path):
            resource = await self._object(call, decode(found[1]), decode(found[2]))
            return with_links(resource, origin) if resource else None
        raise StorageError(404, "NotFound", "Not Found")

    async def _buckets(self, call: Call) -> Resource:
        match call.method:
            case "GET":
                return {"kind": "storage#buckets", "items": await self._index.call(self._index.buckets)}
            case "POST":
                name = call.given.get("name")
                return await self._index.call(
                    self._index.create_bucket, name if isinstance(name, str) else "", call.given
                )
            case _:
                raise method_not_allowed()

    async def _bucket(self, call: Call, bucket: str) -> Resource | None:
        match call.method:
            case "GET":
                return await self._index.call(self._index.bucket, bucket)
            case "PATCH" | "PUT":
                return await self._index.call(self._index.patch_bucket, bucket, call.given)
            case "DELETE":
                await self._index.call(self._index.delete_bucket, bucket)
                return None
            case _:
                raise method_not_allowed()

    async def _object(self, call: Call, bucket: str, name: str) -> Resource | None:
        conditions = _conditions(call.query)
        match call.method:
            case "GET":
                resource, _ = await self._index.call(self._index.get, bucket, name, conditions)
                return resource
            case "PATCH" | "PUT":
                return await self._index.call(self._index.patch, bucket, name, call.given, conditions)
            case "DELETE":
                self._blobs.discard(await self._index.call(self._index.delete, bucket, name, conditions))
                return None
            case _:
                raise method_not_allowed()

    async def _copy(self, call: Call, parts: list[str], origin: str) -> Resource:
        bucket, name, to_bucket, to_name = parts
        if call.method != "POST":
            raise method_not_allowed()
        await self._index.call(self._index.check, to_bucket, to_name, _conditions(call.query))
        source, blob = await self._index.call(self._index.get, bucket, name)
        copy = await self._blobs.copy(blob)
        try:
            resource, replaced = await self._index.call(
                self._index.put, to_bucket, to_name, copy, source | call.given, _conditions(call.query)
            )
        except StorageError:
            self._blobs.discard(copy.id)
            raise
        self._blobs.discard(replaced)
        resource = with_links(resource, origin)
        if "/copyTo/" in call.path:
            return resource
        sizes = {"totalBytesRewritten": resource["size"], "objectSize": resource["size"]}
        return {"kind": "storage#rewriteResponse", "done": True, "resource": resource} | sizes

    async def _upload(
        self, request: web.BaseRequest, bucket: str, path: str, query: Mapping[str, str]
    ) -> web.StreamResponse:
        kind = query.get("uploadType")
        if "upload_id" in query:
            return await self._part(request, bucket, query["upload_id"])
        if request.method != "POST":
            raise method_not_allowed()
        if kind == "resumable":
            given = _map(await small_body(request))
            if "contentType" not in given and "X-Upload-Content-Type" in request.headers:
                given["contentType"] = request.headers["X-Upload-Content-Type"]
            id = await self._uploads.start(_wanted(bucket, given, query))
            location = f"http://{request.host}{path}?uploadType=resumable&upload_id={id}"
            return web.Response(headers={"Location": location})
        if kind == "multipart":
            given, media = await _multipart(request)
        elif kind == "media":
            given, media = {"contentType": request.content_type}, body(request)
        else:
            raise invalid("uploadType must be media, multipart or resumable.")
        resource = await self._uploads.whole(request, _wanted(bucket, given, query), media)
        return reply(with_links(resource, f"http://{request.host}"))

    async def _part(self, request: web.BaseRequest, bucket: str, id: str) -> web.Response:
        if request.method == "DELETE":
            await self._uploads.cancel(id)
            return web.Response(status=499, reason="Client Closed Request")
        if request.method != "PUT":
            raise method_not_allowed()
        outcome = await self._uploads.part(request, id, bucket)
        if isinstance(outcome, Held):
            return resume(outcome)
        return reply(with_links(outcome, f"http://{request.host}"))


def refuse_browsers(request: web.BaseRequest) -> None:
    """Raises StorageError 403 for what a page sends: it could write here without any signature."""
    if "Origin" in request.headers or request.headers.get("Sec-Fetch-Site", "none") != "none":
        raise access_denied("The JSON API is not for browsers here.")


def reply(document: Resource, status: int = 200) -> web.Response:
    """As JSON."""
    return web.Response(body=msgspec.json.encode(document), status=status, content_type="application/json")


def with_links(resource: Resource, origin: str) -> Resource:
    """With the addresses that depend on where the caller found us."""
    path = f"storage/v1/b/{quote(resource['bucket'], safe='')}/o/{quote(resource['name'], safe='')}"
    media = f"{origin}/download/{path}?generation={resource['generation']}&alt=media"
    return resource | {"selfLink": f"{origin}/{path}", "mediaLink": media}


async def small_body(request: web.BaseRequest) -> bytes:
    """The body of a call about metadata. Raises StorageError 413."""
    received = bytearray()
    async for chunk in body(request):
        received += chunk
        if len(received) > METADATA_BYTES:
            raise StorageError(413, "EntityTooLarge", "The request is too large.")
    return bytes(received)


async def _multipart(request: web.BaseRequest) -> tuple[Resource, AsyncIterator[bytes]]:
    """Metadata and bytes of a `multipart/related` upload: https://cloud.google.com/storage/docs/uploading-objects."""
    try:
        reader = aiohttp.MultipartReader(request.headers, request.content)
        first = await reader.next()
        if not isinstance(first, aiohttp.BodyPartReader):
            raise ValueError("it has no metadata")
        head = bytearray()
        while chunk := await first.read_chunk():
            head += chunk
            if len(head) > METADATA_BYTES:
                raise ValueError("its metadata are too large")
        given = _map(bytes(head))
        second = await reader.next()
        if not isinstance(second, aiohttp.BodyPartReader):
            raise ValueError("it has no media")
    except (ValueError, AssertionError, KeyError) as error:
        raise invalid(f"The multipart body can't be read: {error}.") from None
    if "contentType" not in given and "Content-Type" in second.headers:
        given["contentType"] = second.headers["Content-Type"]
    return given, _chunks(second)


async def _chunks(part: aiohttp.BodyPartReader) -> AsyncIterator[bytes]:
    while chunk := await part.read_chunk(1 << 16):
        yield chunk


def _map(received: bytes) -> dict[str, Any]:
    """A JSON object; nothing is an empty one. Raises StorageError 400."""
    try:
        return msgspec.json.decode(received, type=dict[str, Any]) if received.strip() else {}
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise invalid("The body is not a JSON object.") from None


def _wanted(bucket: str, given: Resource, query: Mapping[str, str]) -> Wanted:
    name = query.get("name", given.get("name"))
    if not isinstance(name, str):
        raise StorageError(400, "Required", "Required object name.")
    check_name(name)
    md5, crc32c = (given.get(key, "") for key in ("md5Hash", "crc32c"))
    if not isinstance(md5, str) or not isinstance(crc32c, str):
        raise invalid("Digests must be strings.")
    return Wanted(bucket, name, given, _conditions(query), md5=md5, crc32c=crc32c)


def _conditions(query: Mapping[str, str]) -> Conditions:
    def number(name: str) -> int | None:
        text = query.get(name)
        if text is None:
            return None
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise invalid(f"{name} must be a number.")
        return int(text)

    generation = number("ifGenerationMatch")
    return Conditions(
        generation=number("generation") if generation is None else generation,
        not_generation=number("ifGenerationNotMatch"),
        metageneration=number("ifMetagenerationMatch"),
        not_metageneration=number("ifMetagenerationNotMatch"),
    )
