"""The product's storage client, on the emulator."""

import base64
import io
import json
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import google.auth.credentials
import pytest
from google.oauth2.service_account import Credentials

from infra.local.storage_signer import EMAIL
from shared.kernel import clock, config, ledger
from shared.kernel import storage as media
from shared.kernel.signing_iam import IamCredentials
from tests.local.storage_emulator import HTTP, REPOSITORY, Emulator, code_of, eventually
from tests.local.storage_emulator import emulator as emulator
from tests.local.storage_emulator import signer as signer


@pytest.fixture
def product(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """shared.kernel.storage, set to the emulator."""
    use(emulator.url, emulator.signer, monkeypatch)


def use(url: str, signer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "a:" + "A" * 43
    chosen = config.read(
        {
            "ENVIRONMENT": "local",
            "DATABASE_URL": "postgresql://u:p@127.0.0.1:1/d",
            "REDIS_URL": "redis://127.0.0.1:1",
            "NEO4J_URI": "bolt://127.0.0.1:1",
            "GOOGLE_CLOUD_PROJECT": "test",
            "STORAGE_BUCKET": "media",
            "STORAGE_EMULATOR_HOST": url,
            "STORAGE_SIGNER_FILE": str(signer),
            "MEDIA_BASE_URL": f"{url}/media",
            "PRIVATE_MEDIA_BASE_URL": f"{url}/media-private",
            "MEDIA_KEYS": "k:" + "A" * 22,
            "TOKEN_KEYS": key,
            "COOKIE_KEYS": key,
            "SMTP_URL": "smtp://127.0.0.1:1",
            "MAIL_FROM": "a@example.com",
            "PUBLIC_URL": "http://127.0.0.1:1",
        }
    )
    monkeypatch.setattr(media, "settings", lambda: chosen)
    monkeypatch.setattr(media, "_connected", None)


@pytest.mark.usefixtures("product")
def test_what_the_product_signs_can_be_uploaded_once_as_promised() -> None:
    before = clock.now_ms()
    upload = media.sign_upload("product/ü.png", "image/png", 4, 8, 60)
    assert before + 59_000 < upload.expires_at <= clock.now_ms() + 60_000
    assert HTTP.request(upload.method, upload.url, content=b"123456789", headers=upload.headers).status_code == 400
    assert HTTP.request(upload.method, upload.url, content=b"1234", headers=upload.headers).status_code == 200
    assert HTTP.request(upload.method, upload.url, content=b"5678", headers=upload.headers).status_code == 412
    found = media.stat(["product/ü.png"])[0]
    assert found is not None
    assert (found.size, found.content_type) == (4, "image/png")
    assert before - 1 <= found.created_at <= clock.now_ms()
    assert HTTP.get(media.public_url("product/ü.png")).content == b"1234"


@pytest.mark.usefixtures("product")
def test_stat_and_delete_take_many_names_of_any_kind(emulator: Emulator) -> None:
    names = [f"many/{i}" for i in range(25)]
    for name in names[::2]:
        emulator.bucket().blob(name).upload_from_string(name)
    impossible = ["", ".", "\ud800", "a\nb", "a\0b", "x" * 2000, "many/a?b#c", "../x"]
    counted = ledger.open_ledger()
    stats = media.stat(names + impossible)
    assert [s is not None for s in stats] == [i % 2 == 0 for i in range(25)] + [False] * len(impossible)
    assert counted["storage"].trips == 1
    media.delete(names + impossible)
    media.delete(names)
    assert media.stat(names) == [None] * 25
    assert media.stat([]) == []


@pytest.mark.usefixtures("product")
def test_old_objects_are_listed_in_pages(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "PAGE", 2)
    names = [f"old/{i}" for i in range(5)]
    for name in [*names, "older"]:
        emulator.bucket().blob(name).upload_from_string(name)
    later = clock.now_ms() + 1000
    assert list(media.list_older_than("old/", later)) == [names[:2], names[2:4], names[4:]]
    assert list(media.list_older_than("old/", later - 3_600_000)) == []
    listed: list[str] = []
    for page in media.list_older_than("old/", later):
        media.delete(page)
        listed += page
    assert listed == names


def test_storage_that_is_down_is_unavailable(signer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:  # bound and not listening: refuses
        taken.bind(("127.0.0.1", 0))
        use(f"http://127.0.0.1:{taken.getsockname()[1]}", signer, monkeypatch)
        monkeypatch.setattr(media, "RETRY_SECONDS", 0.2)
        assert media.sign_upload("a", "image/png", 1, 2, 60).url  # needs no storage
        for attempt in (
            media.ping,
            lambda: media.stat(["a", "b"]),
            lambda: media.delete(["a"]),
            lambda: list(media.list_older_than("", 0)),
        ):
            with pytest.raises(media.StorageUnavailable):
                attempt()


def test_storage_that_hangs_is_unavailable(signer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        use(f"http://127.0.0.1:{silent.getsockname()[1]}", signer, monkeypatch)
        monkeypatch.setattr(media, "RETRY_SECONDS", 0.2)
        monkeypatch.setattr(media, "TIMEOUT_SECONDS", (0.2, 0.2))
        with pytest.raises(media.StorageUnavailable):
            media.stat(["a"])


class RunsAs(google.auth.credentials.Credentials):
    """The identity of a process in the cloud: it has a name, once asked for, and no key."""

    service_account_email = "default"

    def refresh(self, request: object) -> None:
        self.service_account_email, self.token = EMAIL, "token"


@pytest.mark.usefixtures("product")
def test_signing_by_iam_is_as_good(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    key = Credentials.from_service_account_file(emulator.signer)
    asked: list[str] = []

    def iam(url: str, method: str, body: bytes, headers: dict[str, str]) -> SimpleNamespace:
        """IAM's signBlob, as far as its documented request and answer go."""
        asked.append(f"{method} {url}")
        message = base64.b64decode(json.loads(body)["payload"])
        answer = {"keyId": "1", "signedBlob": base64.b64encode(key.sign_bytes(message)).decode()}
        return SimpleNamespace(status=200, data=json.dumps(answer).encode())

    monkeypatch.setattr(media, "_signer", lambda file: IamCredentials(RunsAs(), iam))
    upload = media.sign_upload("by-iam", "image/png", 1, 8, 60)
    assert HTTP.put(upload.url, content=b"1234", headers=upload.headers).status_code == 200
    assert asked == [f"POST https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{EMAIL}:signBlob"]


def test_naming_an_object_imports_no_client() -> None:
    program = (
        "import sys, shared.kernel.storage; print('google.cloud.storage' in sys.modules, 'requests' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=30)
    assert ended.stdout.split() == ["False", "False"]


@pytest.mark.usefixtures("product")
def test_what_is_private_is_read_by_a_signed_url_alone(emulator: Emulator) -> None:
    media.put_private("exports/ü.zip", io.BytesIO(b"mine"), "application/zip", "mine.zip")
    url = media.sign_download("exports/ü.zip", 60)
    bare = url.partition("?")[0]
    assert bare.startswith(f"{emulator.url}/media-private/exports/")
    read = HTTP.get(url)
    assert (read.status_code, read.content) == (200, b"mine")
    assert read.headers["content-type"] == "application/zip"
    assert read.headers["content-disposition"] == 'attachment; filename="mine.zip"'
    assert read.headers["cache-control"] == "private, no-store"
    for method in ("GET", "HEAD"):
        assert HTTP.request(method, bare).status_code == 403
    assert code_of(HTTP.get(bare)) == "AccessDenied"
    assert HTTP.get(bare.replace("%C3%BC", "other")).status_code == 403
    # The same name in the other bucket is another object, and its signature is no good for it.
    assert HTTP.get(url.replace("/media-private/", "/media/")).status_code == 403
    media.put_private("exports/ü.zip", io.BytesIO(b"newer"), "application/zip", "mine.zip")
    assert HTTP.get(url).content == b"newer"
    media.delete(["exports/ü.zip", "exports/never.zip"], private=True)
    assert HTTP.get(url).status_code == 404


@pytest.mark.usefixtures("product")
def test_a_download_is_over_when_it_says() -> None:
    media.put_private("exports/short.zip", io.BytesIO(b"mine"), "application/zip", "mine.zip")
    url = media.sign_download("exports/short.zip", 1)
    eventually(lambda: HTTP.get(url).status_code == 400)
    assert code_of(HTTP.get(url)) == "ExpiredToken"
