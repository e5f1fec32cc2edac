"""The JSON API's batch: up to 100 calls about metadata in one request: https://cloud.google.com/storage/docs/batch."""

import email.message
import email.parser
import email.policy
from http import HTTPStatus
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from infra.local.storage_blobs import new_id
from infra.local.storage_errors import StorageError, invalid
from infra.local.storage_index import Resource
from infra.local.storage_json import Call, Json, small_body
from infra.local.storage_signatures import parse_query

PATH = "/batch/storage/v1"
_MOST = 100


async def batch(request: web.BaseRequest, json: Json) -> web.Response:
    """Each call by itself, in order; one that fails leaves the others be. Raises StorageError 400 or 413."""
    head = f"Content-Type: {request.headers.get('Content-Type', '')}\r\n\r\n".encode("utf-8", "replace")
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + await small_body(request))
    if not message.is_multipart():
        raise invalid("A batch must be multipart/mixed.")
    parts = list(message.iter_parts())
    if len(parts) > _MOST:
        raise invalid(f"A batch may have {_MOST} calls.")
    boundary = f"batch_{new_id()}"
    answers = [await _one(part, json, f"http://{request.host}") for part in parts]
    joined = b"".join(b"--%s\r\n%s\r\n" % (boundary.encode(), answer) for answer in answers)
    return web.Response(
        body=joined + b"--%s--\r\n" % boundary.encode(),
        headers={"Content-Type": f'multipart/mixed; boundary="{boundary}"'},
    )


async def _one(part: email.message.MIMEPart, json: Json, origin: str) -> bytes:
    try:
        outcome = await json.call(_call(part), origin)
        status = 204 if outcome is None else 200
    except StorageError as error:
        status, outcome = error.status, error.json()
    content = b"" if outcome is None else msgspec.json.encode(outcome)
    id = part.get("Content-ID", "")
    lines = [
        "Content-Type: application/http",
        *([f"Content-ID: <response-{id.strip('<>')}>"] if id.isprintable() and id else []),
        "",
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "Content-Type: application/json; charset=UTF-8",
        f"Content-Length: {len(content)}",
        "",
        "",
    ]
    return "\r\n".join(lines).encode("utf-8", "replace") + content


def _call(part: email.message.MIMEPart) -> Call:
    payload = part.get_payload(decode=True)
    if not isinstance(payload, bytes):
        raise invalid("A part of a batch must be application/http.")
    head, _, body = payload.replace(b"\r\n", b"\n").partition(b"\n\n")
    words = head.decode("utf-8", "replace").partition("\n")[0].split(" ")
    if len(words) != 3:
        raise invalid("A part of a batch must begin with a request line.")
    try:
        target = urlsplit(words[1])
        given: Resource = msgspec.json.decode(body, type=dict) if body.strip() else {}
    except (ValueError, RecursionError):
        raise invalid("A part of a batch can't be read.") from None
    return Call(words[0], target.path, dict(parse_query(target.query)), given)
