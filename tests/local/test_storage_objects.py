"""Objects in the storage emulator: read over HTTP, kept by google-cloud-storage's own client."""

import os
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest
from google.api_core.exceptions import Conflict, NotFound, PreconditionFailed

from tests.local.storage_emulator import (
    HTTP,
    QUANTUM,
    Emulator,
    code_of,
)
from tests.local.storage_emulator import emulator as emulator
from tests.local.storage_emulator import own as own
from tests.local.storage_emulator import signer as signer


def test_ranges(emulator: Emulator) -> None:
    emulator.bucket().blob("ranges").upload_from_string(b"0123456789", "text/plain")
    url = f"{emulator.url}/media/ranges"
    cases = {
        "bytes=2-4": b"234",
        "bytes=7-": b"789",
        "bytes=-3": b"789",
        "bytes=5-99": b"56789",
        "bytes=-99": b"0123456789",
    }
    for asked, expected in cases.items():
        read = HTTP.get(url, headers={"Range": asked})
        assert read.content == expected
        assert (read.status_code == 206) == (len(expected) < 10)
    assert HTTP.get(url, headers={"Range": "bytes=2-4"}).headers["content-range"] == "bytes 2-4/10"
    for ignored in ("bytes=4-2", "bytes=1-2,4-5", "lines=1-2", "bytes=-"):
        assert HTTP.get(url, headers={"Range": ignored}).content == b"0123456789"
    beyond = HTTP.get(url, headers={"Range": "bytes=10-"})
    assert (beyond.status_code, code_of(beyond)) == (416, "InvalidRange")
    etag = HTTP.head(url).headers["etag"]
    assert HTTP.get(url, headers={"If-None-Match": etag}).status_code == 304
    assert HTTP.get(url, headers={"Range": "bytes=2-4", "If-Range": '"other"'}).status_code == 200


def test_head_has_the_length_and_no_body(emulator: Emulator) -> None:
    emulator.bucket().blob("head").upload_from_string(b"0123456789")
    read = HTTP.head(f"{emulator.url}/media/head")
    assert (read.headers["content-length"], read.content) == ("10", b"")


def raw_get(emulator: Emulator, path: str) -> tuple[int, bytes]:
    """A GET of exactly this path: httpx would tidy it up."""
    address = urlsplit(emulator.url)
    connection = HTTPConnection(address.hostname or "", address.port)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_absent_objects_and_odd_paths(emulator: Emulator) -> None:
    for path in ("/media/none", "/none/none", "/media/a/../../../etc/passwd", "/media/%2e%2e%2f%2e%2e%2fetc%2fpasswd"):
        status, body = raw_get(emulator, path)
        assert status == 404
        assert b"<Code>NoSuchKey<" in body or b"<Code>NoSuchBucket<" in body
    for path in ("/media/%ff", "/media/" + "a" * 1025, "/media/..", "/media/.", "/media/%00", "/media/a%0d%0ab"):
        assert raw_get(emulator, path)[0] == 400
    for path in ("/", "/media", "/media/"):
        assert raw_get(emulator, path)[0] == 403


def test_names_stay_names(own: Emulator) -> None:
    for name in ("../escaped", "/etc/escaped", "a//b", "..%2f", "a/./b", "é 🦊", "%", "a?b#c"):
        own.bucket().blob(name).upload_from_string(name.encode())
        assert own.bucket().blob(name).download_as_bytes() == name.encode()
    outside = [f for f in own.folder.parent.rglob("*") if "escaped" in f.name]
    assert outside == []


def test_buckets(emulator: Emulator) -> None:
    client = emulator.client()
    made = client.create_bucket("other-bucket")
    with pytest.raises(Conflict):
        client.create_bucket("other-bucket")
    assert client.get_bucket("other-bucket").name == made.name
    assert {"media", "other-bucket"} <= {bucket.name for bucket in client.list_buckets()}
    made.labels = {"a": "b"}
    made.patch()
    assert client.get_bucket("other-bucket").labels == {"a": "b"}
    made.blob("x").upload_from_string("x")
    with pytest.raises(Conflict):
        made.delete()
    made.delete(force=True)
    assert not client.bucket("other-bucket").exists()
    with pytest.raises(NotFound):
        client.bucket("other-bucket").blob("x").upload_from_string("x")


def test_metadata_copies_and_preconditions(emulator: Emulator) -> None:
    bucket = emulator.bucket()
    blob = bucket.blob("meta/a")
    blob.cache_control, blob.metadata = "no-store", {"k": "v"}
    blob.upload_from_string(b"abc", "text/plain", if_generation_match=0)
    with pytest.raises(PreconditionFailed):
        bucket.blob("meta/a").upload_from_string(b"abd", if_generation_match=0)
    blob.content_type, blob.metadata = "text/css", {"l": "w"}
    blob.patch()
    blob.reload()
    assert (blob.content_type, blob.metadata, blob.cache_control, blob.metageneration) == (
        "text/css",
        {"k": "v", "l": "w"},
        "no-store",
        2,
    )
    copy = bucket.copy_blob(blob, bucket, "meta/b")
    moved = bucket.rename_blob(copy, "meta/c")
    assert (moved.download_as_bytes(), moved.content_type) == (b"abc", "text/css")
    assert bucket.get_blob("meta/b") is None
    with pytest.raises(PreconditionFailed):
        bucket.delete_blob("meta/a", if_generation_match=1)
    generation = blob.generation or 0
    blob.upload_from_string(b"new")
    assert (blob.generation or 0) > generation
    assert HTTP.get(f"{emulator.url}/media/meta/c").headers["cache-control"] == "no-store"


def test_listing_in_pages(emulator: Emulator) -> None:
    bucket = emulator.bucket()
    names = [f"list/{i:02}" for i in range(7)] + ["list/sub/1", "list/sub/2", "list/é"]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: bucket.blob(name).upload_from_string(name), [*names, "lisu", "lis"]))
    listed = bucket.list_blobs(prefix="list/", page_size=3)
    assert [[blob.name for blob in page] for page in listed.pages] == [names[:3], names[3:6], names[6:9], names[9:]]
    flat = bucket.list_blobs(prefix="list/", delimiter="/", page_size=2)
    assert [blob.name for blob in flat] == [*names[:7], "list/é"]
    assert flat.prefixes == {"list/sub/"}
    assert [b.name for b in bucket.list_blobs(start_offset="list/05", end_offset="list/sub/2")] == names[5:8]
    assert [b.name for b in bucket.list_blobs(prefix="list/", max_results=2)] == names[:2]


def test_deleting_one_by_one_and_in_a_batch(emulator: Emulator) -> None:
    client = emulator.client()
    bucket = client.bucket("media")
    for name in ("del/1", "del/2", "del/3"):
        bucket.blob(name).upload_from_string(name)
    bucket.delete_blob("del/1")
    with pytest.raises(NotFound):
        bucket.delete_blob("del/1")
    with client.batch(raise_exception=False):
        for name in ("del/1", "del/2", "del/3"):
            bucket.delete_blob(name)
    assert list(bucket.list_blobs(prefix="del/")) == []


def test_downloads_by_the_client_are_checked(emulator: Emulator) -> None:
    content = os.urandom(3 * QUANTUM + 7)
    blob = emulator.bucket().blob("download")
    blob.upload_from_string(content, checksum="md5")
    assert blob.download_as_bytes(checksum="md5") == content
    assert blob.download_as_bytes(start=10, end=19) == content[10:20]


def test_metadata_that_cannot_stand_in_a_header_are_refused(emulator: Emulator) -> None:
    upload = f"{emulator.url}/upload/storage/v1/b/media/o?uploadType=resumable&name=odd"
    odd: list[Any] = [{"contentType": "a\r\nb: c"}, {"contentType": 5}, {"metadata": {"a b": "c"}}, {"metadata": [1]}]
    for given in odd:
        location = HTTP.post(upload, json=given).headers.get("location")
        outcome = HTTP.put(location, content=b"x") if location else None
        assert outcome is None or outcome.status_code == 400
    for content in (b"[1]", b"{", b"[" * 100_000, b"\xff", b'{"name": 1}'):
        assert HTTP.post(upload, content=content).status_code in (200, 400)
    assert HTTP.post(upload, content=b" " * (2 << 20)).status_code == 413
    assert emulator.bucket().get_blob("odd") is None
