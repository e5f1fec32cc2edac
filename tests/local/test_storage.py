"""Who may write to the storage emulator, and what: signatures, sizes, types, origins."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from infra.local.storage_errors import StorageError
from infra.local.storage_signatures import Arrived, verify
from infra.local.storage_signer import Verifier, make_signer
from tests.local.storage_emulator import HEADERS, HTTP, ORIGIN, Emulator, code_of
from tests.local.storage_emulator import emulator as emulator
from tests.local.storage_emulator import own as own
from tests.local.storage_emulator import signer as signer


def test_a_signed_upload_is_stored_and_can_be_read(emulator: Emulator) -> None:
    url = emulator.sign("signed/ok%20%C3%A9", HEADERS)
    put = HTTP.put(url, content=b"12345", headers=HEADERS)
    assert put.status_code == 200
    assert put.content == b""
    read = HTTP.get(f"{emulator.url}/media/signed/ok%20%C3%A9")
    assert read.content == b"12345"
    assert read.headers["content-type"] == "image/png"
    assert read.headers["x-content-type-options"] == "nosniff"
    assert read.headers["cache-control"] == "public, max-age=3600"
    blob = emulator.bucket().get_blob("signed/ok é")
    assert blob is not None
    assert (blob.size, blob.content_type) == (5, "image/png")


def refused(
    emulator: Emulator, name: str, url: str, headers: dict[str, str], content: bytes = b"12345"
) -> tuple[int, str]:
    response = HTTP.put(url, content=content, headers=headers)
    assert emulator.bucket().get_blob(name) is None
    return response.status_code, code_of(response)


@pytest.mark.parametrize("what", ["X-Goog-Signature=", "X-Goog-Expires=", "X-Goog-Date=2", "Goog-SignedHeaders=con"])
def test_a_tampered_url_is_refused(emulator: Emulator, what: str) -> None:
    url = emulator.sign("tampered", HEADERS)
    at = url.index(what) + len(what)
    tampered = url[:at] + ("1" if url[at] != "1" else "2") + url[at + 1 :]
    status, _ = refused(emulator, "tampered", tampered, HEADERS)
    assert status in (400, 403)


def test_a_foreign_key_is_refused(emulator: Emulator, tmp_path: Path) -> None:
    make_signer(tmp_path / "other.json")
    other = Emulator(emulator.process, emulator.url, emulator.folder, tmp_path / "other.json")
    url = other.sign("foreign", HEADERS)
    assert refused(emulator, "foreign", url, HEADERS) == (403, "SignatureDoesNotMatch")


def test_an_unsigned_write_is_refused(emulator: Emulator) -> None:
    assert refused(emulator, "unsigned", f"{emulator.url}/media/unsigned", {}) == (403, "AccessDenied")
    for method in ("POST", "DELETE"):
        assert HTTP.request(method, f"{emulator.url}/media/unsigned").status_code == 403


def test_an_expired_url_is_refused(emulator: Emulator) -> None:
    url = emulator.sign("expired", HEADERS, expiration=900, _request_timestamp="20240101T000000Z")
    assert refused(emulator, "expired", url, HEADERS) == (400, "ExpiredToken")


def test_a_url_from_the_future_is_refused(emulator: Emulator) -> None:
    url = emulator.sign("future", HEADERS, expiration=900, _request_timestamp="22240101T000000Z")
    assert refused(emulator, "future", url, HEADERS) == (403, "RequestTimeTooSkewed")


def test_another_type_is_refused(emulator: Emulator) -> None:
    url = emulator.sign("type", HEADERS)
    wrong = HEADERS | {"Content-Type": "text/html"}
    assert refused(emulator, "type", url, wrong) == (403, "SignatureDoesNotMatch")


@pytest.mark.parametrize("missing", HEADERS)
def test_every_signed_header_must_come(emulator: Emulator, missing: str) -> None:
    url = emulator.sign("missing", HEADERS)
    rest = {name: value for name, value in HEADERS.items() if name != missing}
    assert refused(emulator, "missing", url, rest) == (400, "MalformedSecurityHeader")


def test_a_goog_header_that_is_not_signed_is_refused(emulator: Emulator) -> None:
    url = emulator.sign("extra", {"Content-Type": "image/png"})
    extra = {"Content-Type": "image/png", "x-goog-meta-a": "b"}
    assert refused(emulator, "extra", url, extra) == (400, "MalformedSecurityHeader")


@pytest.mark.parametrize(("size", "code"), [(3, "EntityTooSmall"), (1001, "EntityTooLarge")])
@pytest.mark.parametrize("chunked", [False, True])
def test_another_size_is_refused(emulator: Emulator, size: int, code: str, chunked: bool) -> None:
    url = emulator.sign("size", HEADERS)
    content = iter([b"x" * (size - 1), b"x"]) if chunked else b"x" * size
    response = HTTP.put(url, content=content, headers=HEADERS)
    assert (response.status_code, code_of(response)) == (400, code)
    assert emulator.bucket().get_blob("size") is None


@pytest.mark.parametrize("size", [4, 1000])
def test_the_bounds_of_the_size_are_allowed(emulator: Emulator, size: int) -> None:
    url = emulator.sign(f"bounds{size}", HEADERS)
    assert HTTP.put(url, content=b"x" * size, headers=HEADERS).status_code == 200


def test_far_too_large_a_body_is_refused_without_being_kept(own: Emulator) -> None:
    response = HTTP.put(own.sign("large", HEADERS), content=iter([b"x" * 65536] * 200), headers=HEADERS)
    assert code_of(response) == "EntityTooLarge"
    assert own.files() == []


def test_a_url_is_good_for_its_object_only(emulator: Emulator) -> None:
    url = emulator.sign("mine", HEADERS).replace("/media/mine", "/media/yours")
    assert refused(emulator, "yours", url, HEADERS) == (403, "SignatureDoesNotMatch")


def test_a_url_is_good_for_its_method_only(emulator: Emulator) -> None:
    url = emulator.sign("method", HEADERS)
    assert HTTP.delete(url, headers=HEADERS).status_code == 403


def test_an_upload_cannot_be_replayed_over_the_object(emulator: Emulator) -> None:
    url = emulator.sign("replayed", HEADERS)
    assert HTTP.put(url, content=b"first", headers=HEADERS).status_code == 200
    again = HTTP.put(url, content=b"other", headers=HEADERS)
    assert (again.status_code, code_of(again)) == (412, "PreconditionFailed")
    assert HTTP.get(f"{emulator.url}/media/replayed").content == b"first"


def test_of_uploads_at_once_exactly_one_wins(emulator: Emulator) -> None:
    url = emulator.sign("race", HEADERS)
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda n: HTTP.put(url, content=b"%04d" % n, headers=HEADERS).status_code, range(8)))
    assert sorted(statuses) == [200] + [412] * 7


def test_a_body_of_another_digest_is_refused(emulator: Emulator) -> None:
    headers = {"Content-Type": "image/png", "Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}
    assert refused(emulator, "digest", emulator.sign("digest", headers), headers) == (400, "BadDigest")


def test_signed_reading_and_deleting(emulator: Emulator) -> None:
    emulator.bucket().blob("signed-read").upload_from_string(b"abc")
    assert HTTP.get(emulator.sign("signed-read", method="GET")).content == b"abc"
    assert HTTP.get(emulator.sign("signed-read", method="GET")[:-2] + "zz").status_code == 403
    assert HTTP.delete(emulator.sign("signed-read", method="DELETE")).status_code == 204
    assert HTTP.get(f"{emulator.url}/media/signed-read").status_code == 404


# the signature's rules, at chosen instants


def arrived(url: str, headers: dict[str, str], method: str = "PUT") -> Arrived:
    parts = urlsplit(url)
    return Arrived(method, parts.path, parts.query, [("Host", parts.netloc), *headers.items()])


def test_a_url_lives_as_long_as_it_says(emulator: Emulator, signer: Path) -> None:
    verifier = Verifier.load(signer)
    at = 1704067200  # 2024-01-01T00:00:00Z
    request = arrived(emulator.sign("a", HEADERS, expiration=60, _request_timestamp="20240101T000000Z"), HEADERS)
    for now in (at - 900, at, at + 59.9):
        assert verify(request, verifier, now) == {"host", *(name.lower() for name in HEADERS)}
    for now in (at - 901, at + 60):
        with pytest.raises(StorageError):
            verify(request, verifier, now)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("GOOG4-RSA-SHA256", "GOOG4-HMAC-SHA256"),
        ("X-Goog-Expires=900", "X-Goog-Expires=604801"),
        ("X-Goog-Expires=900", "X-Goog-Expires=0"),
        ("X-Goog-Expires=900", "X-Goog-Expires=-1"),
        ("X-Goog-Expires=900", "X-Goog-Expires=900&X-Goog-Expires=901"),
        ("X-Goog-Expires=900", "other=1"),
        ("%2Fgoog4_request", ""),
        ("%2F20240101", "%2F20240102"),
        ("X-Goog-Date=20240101", "X-Goog-Date=20249901"),
        ("%3Bhost", ""),
        ("X-Goog-Signature=", "X-Goog-Signature=é"),
        ("X-Goog-Signature=", "X-Goog-Signature=%FF"),
    ],
)
def test_a_malformed_signature_is_refused(emulator: Emulator, signer: Path, old: str, new: str) -> None:
    url = emulator.sign("a", HEADERS, _request_timestamp="20240101T000000Z")
    assert old in url
    with pytest.raises(StorageError) as refusal:
        verify(arrived(url.replace(old, new), HEADERS), Verifier.load(signer), 1704067200)
    assert refusal.value.status in (400, 403)


# browsers


def test_preflight_of_an_allowed_origin(emulator: Emulator) -> None:
    asked = ", ".join(HEADERS).lower()
    response = HTTP.options(
        emulator.sign("cors", HEADERS),
        headers={
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "PUT",
            "Access-Control-Request-Headers": asked,
        },
    )
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert "PUT" in response.headers["access-control-allow-methods"]
    assert set(response.headers["access-control-allow-headers"].split(", ")) == set(asked.split(", "))
    assert "Origin" in response.headers["vary"]


@pytest.mark.parametrize(
    ("origin", "method", "header"),
    [
        ("http://evil.example", "PUT", "content-type"),
        ("null", "PUT", "content-type"),
        (ORIGIN + ".evil.example", "PUT", "content-type"),
        (ORIGIN, "PATCH", "content-type"),
        (ORIGIN, "PUT", "x-forwarded-for"),
    ],
)
def test_preflight_that_is_not_allowed(emulator: Emulator, origin: str, method: str, header: str) -> None:
    asked = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": header}
    response = HTTP.options(emulator.sign("cors", HEADERS), headers=asked)
    assert not [name for name in response.headers if name.startswith("access-control")]


def test_answers_to_an_allowed_origin_can_be_read(emulator: Emulator) -> None:
    put = HTTP.put(emulator.sign("cors-put", HEADERS), content=b"12345", headers=HEADERS | {"Origin": ORIGIN})
    read = HTTP.get(f"{emulator.url}/media/cors-put", headers={"Origin": ORIGIN})
    missing = HTTP.get(f"{emulator.url}/media/cors-none", headers={"Origin": ORIGIN})
    foreign = HTTP.get(f"{emulator.url}/media/cors-put", headers={"Origin": "http://evil.example"})
    assert (put.status_code, read.status_code, missing.status_code, foreign.status_code) == (200, 200, 404, 200)
    assert [r.headers.get("access-control-allow-origin") for r in (put, read, missing, foreign)] == [ORIGIN] * 3 + [
        None
    ]


def test_a_page_cannot_use_what_asks_for_no_signature(emulator: Emulator) -> None:
    upload = f"{emulator.url}/upload/storage/v1/b/media/o?uploadType=media&name=planted"
    for headers in ({"Origin": ORIGIN}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "rebound.example"}):
        assert HTTP.post(upload, content=b"x", headers=headers).status_code == 403
    batch = HTTP.post(f"{emulator.url}/batch/storage/v1", content=b"x", headers={"Sec-Fetch-Site": "same-site"})
    assert batch.status_code == 403
    assert emulator.bucket().get_blob("planted") is None
