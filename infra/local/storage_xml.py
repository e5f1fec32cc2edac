"""The XML API, `/bucket/object`: for browsers and phones.

Objects are public to read; those in private buckets by signed URLs, as behind Cloud CDN or by V4; the rest needs V4.
"""

import time
from collections.abc import Mapping

from aiohttp import web

from infra.local import storage_cdn
from infra.local.storage_blobs import Blobs
from infra.local.storage_errors import StorageError, access_denied, invalid, method_not_allowed, too_large
from infra.local.storage_index import Conditions, Index, Resource, check_name
from infra.local.storage_media import object_headers, serve
from infra.local.storage_signatures import Arrived, decode, is_signed, parse_query, verify
from infra.local.storage_signer import Verifier
from infra.local.storage_uploads import Held, Uploads, Wanted, body

_FIELDS = {
    "Content-Type": "contentType",
    "Cache-Control": "cacheControl",
    "Content-Disposition": "contentDisposition",
    "Content-Encoding": "contentEncoding",
    "Content-Language": "contentLanguage",
}
_ALLOWED_METHODS = "GET, HEAD, PUT, POST, DELETE"
_ALLOWED_HEADERS = {"content-type", "content-md5", "content-range", "cache-control", "content-disposition", "range"}
_EXPOSED_HEADERS = "Content-Type, Content-Length, Content-Range, ETag, Location, Range, x-goog-generation, x-goog-hash"
_PREFLIGHT_SECONDS = 3600


def cors(request: web.BaseRequest, origins: frozenset[str]) -> dict[str, str]:
    """The CORS fields of an answer; but Vary none for an origin that isn't allowed."""
    origin = request.headers.get("Origin")
    fields = {"Vary": "Origin"}
    if origin not in origins or origin is None:
        return fields
    if request.method != "OPTIONS":
        return fields | {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": _EXPOSED_HEADERS}
    method = request.headers.get("Access-Control-Request-Method", "")
    asked = request.headers.get("Access-Control-Request-Headers", "").lower().split(",")
    names = {name.strip() for name in asked} - {""}
    if method not in _ALLOWED_METHODS.split(", ") or any(not _may_be_sent(name) for name in names):
        return fields
    return fields | {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Methods": _ALLOWED_METHODS,
        "Access-Control-Allow-Headers": ", ".join(sorted(names)),
        "Access-Control-Max-Age": str(_PREFLIGHT_SECONDS),
    }


def _may_be_sent(header: str) -> bool:
    return header in _ALLOWED_HEADERS or header.startswith("x-goog-")


class Xml:
    """Answers what came to a path of the XML API."""

    def __init__(
        self,
        index: Index,
        blobs: Blobs,
        uploads: Uploads,
        verifier: Verifier,
        private: frozenset[str] = frozenset(),
        cdn_keys: Mapping[str, bytes] | None = None,
    ):
        self._private = private
        self._cdn_keys = cdn_keys or {}
        self._index = index
        self._blobs = blobs
        self._uploads = uploads
        self._verifier = verifier

    async def answer(self, request: web.BaseRequest, path: str, query: str) -> web.StreamResponse:
        """`path` and `query` as on the wire. Raises StorageError."""
        if request.method == "OPTIONS":
            return web.Response()
        bucket, _, name = (decode(part) for part in path.lstrip("/").partition("/"))
        parameters = dict(parse_query(query))
        if "upload_id" in parameters:
            return await self._part(request, bucket, parameters["upload_id"])
        if is_signed(query):
            headers = [(name, value) for name, value in request.headers.items()]
            verify(Arrived(request.method, path, query, headers), self._verifier, time.time())
        elif request.method not in ("GET", "HEAD"):
            raise access_denied("Anonymous caller may only read here.")
        elif bucket in self._private and storage_cdn.is_signed(query):
            storage_cdn.verify(f"{request.scheme}://{request.host}{path}?{query}", self._cdn_keys, time.time())
        elif bucket in self._private:
            raise access_denied("Anonymous caller does not have storage.objects.get access to the object.")
        if not name:
            raise access_denied("Only objects can be asked for here.")
        check_name(name)
        return await self._object(request, path, bucket, name)

    async def _object(self, request: web.BaseRequest, path: str, bucket: str, name: str) -> web.StreamResponse:
        conditions = _conditions(request.headers)
        match request.method:
            case "GET" | "HEAD":
                return await serve(request, self._index, self._blobs, bucket, name, conditions)
            case "PUT" if "x-goog-copy-source" not in request.headers:
                return await self._put(request, _wanted(request.headers, bucket, name, conditions))
            case "POST" if request.headers.get("x-goog-resumable") == "start":
                id = await self._uploads.start(_wanted(request.headers, bucket, name, conditions))
                return web.Response(status=201, headers={"Location": f"http://{request.host}{path}?upload_id={id}"})
            case "DELETE":
                self._blobs.discard(await self._index.call(self._index.delete, bucket, name, conditions))
                return web.Response(status=204)
            case "PUT" | "POST":
                raise StorageError(501, "NotImplemented", "This kind of upload is not supported here.")
            case _:
                raise method_not_allowed()

    async def _put(self, request: web.BaseRequest, wanted: Wanted) -> web.Response:
        length = request.content_length
        if length is None and request.headers.get("Transfer-Encoding", "").lower() != "chunked":
            raise StorageError(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
        if wanted.most is not None and (length or 0) > wanted.most:
            raise too_large(wanted.most)
        return _stored(await self._uploads.whole(request, wanted, body(request)))

    async def _part(self, request: web.BaseRequest, bucket: str, id: str) -> web.Response:
        """The upload's id is all the authority it needs."""
        if request.method == "DELETE":
            await self._uploads.cancel(id)
            return web.Response(status=204)
        if request.method != "PUT":
            raise method_not_allowed()
        outcome = await self._uploads.part(request, id, bucket)
        return resume(outcome) if isinstance(outcome, Held) else _stored(outcome)


def resume(held: Held) -> web.Response:
    """308: how far a resumable upload is."""
    headers = {"Range": f"bytes=0-{held.received - 1}"} if held.received else {}
    return web.Response(status=308, reason="Resume Incomplete", headers=headers)


def _stored(resource: Resource) -> web.Response:
    headers = object_headers(resource)
    chosen = ("ETag", "x-goog-generation", "x-goog-metageneration", "x-goog-hash", "x-goog-stored-content-length")
    return web.Response(headers={name: headers[name] for name in chosen})


def _wanted(headers: Mapping[str, str], bucket: str, name: str, conditions: Conditions) -> Wanted:
    given: Resource = {field: headers[header] for header, field in _FIELDS.items() if header in headers}
    metadata = {
        k.lower().removeprefix("x-goog-meta-"): v for k, v in headers.items() if k.lower().startswith("x-goog-meta-")
    }
    if metadata:
        given["metadata"] = metadata
    least, most = _length_range(headers.get("x-goog-content-length-range"))
    pairs = [part.strip().partition("=") for part in headers.get("x-goog-hash", "").split(",")]
    hashes = {name: value for name, _, value in pairs}
    md5 = headers.get("Content-MD5", hashes.get("md5", ""))
    return Wanted(bucket, name, given, conditions, least, most, md5, hashes.get("crc32c", ""))


def _length_range(text: str | None) -> tuple[int, int | None]:
    if text is None:
        return 0, None
    least, _, most = (part.strip() for part in text.partition(","))
    if not all(part.isascii() and part.isdigit() and len(part) < 16 for part in (least, most)) or int(least) > int(
        most
    ):
        raise invalid("x-goog-content-length-range must be LEAST,MOST.")
    return int(least), int(most)


def _conditions(headers: Mapping[str, str]) -> Conditions:
    def number(name: str) -> int | None:
        text = headers.get(name)
        if text is None:
            return None
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise invalid(f"{name} must be a number.")
        return int(text)

    return Conditions(
        generation=number("x-goog-if-generation-match"), metageneration=number("x-goog-if-metageneration-match")
    )
