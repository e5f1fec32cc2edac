"""Media storage: Cloud Storage through its own client, or the local stack's emulator at STORAGE_EMULATOR_HOST.

The client is imported when first used: on top of functions-framework it costs about 0.17 s and 31 MiB, once, which only
what signs, checks or deletes pays; public_url costs nothing. google-auth alone could sign for 0.04 s and 10 MiB, but
with a canonical request of our own, which is Google's to define; per URL there is nothing to gain (0.47 ms, of which
the RSA signature is 0.34).
Everything has a time-out, and a store that can't be reached is StorageUnavailable.
"""

import base64
import hmac
import importlib
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any, BinaryIO, Final, TypeVar
from urllib.parse import quote

import msgspec

from shared.kernel import clock, ledger, running
from shared.kernel.config import settings
from shared.kernel.problems import Unavailable

# Any: the client has no types of its own.
Client = Any
Bucket = Any

TIMEOUT_SECONDS: Final = (2.0, 5.0)  # to connect, and between bytes
RETRY_SECONDS: Final = 3.0
PARALLEL: Final = 10  # as many as a requests session keeps connections
PAGE: Final = 1000
NAME_BYTES: Final = 1024
# A private URL is good until the end of an hour: the same for all who read in one hour, so that caches hold, and
# signing costs nothing after the first.
_HOUR: Final = 3600
# So long after it was made a private URL may be told again: it is good for another hour still.
RETOLD_SECONDS: Final = _HOUR

T = TypeVar("T")
_lock = threading.Lock()
_connected: "Connected | None" = None


class StorageUnavailable(Unavailable):
    """503: storage can't be reached, or doesn't answer in time."""

    def __init__(self) -> None:
        super().__init__("storage")


class Upload(msgspec.Struct, frozen=True):
    """A request that a client may make: `method` to `url` with exactly these `headers`, until `expires_at` (ms)."""

    method: str
    url: str
    headers: dict[str, str]
    expires_at: int


class Stat(msgspec.Struct, frozen=True):
    """An object that is there. `size` in bytes, `created_at` in ms."""

    size: int
    content_type: str
    created_at: int


class Connected(msgspec.Struct, frozen=True):
    """What a process keeps: the client's buckets, what signs, how to retry, and threads for requests side by side."""

    bucket: Bucket
    private: Bucket
    signer: Any
    retry: Any
    threads: ThreadPoolExecutor


@running.blocking
def sign_upload(
    object: str,
    content_type: str,
    min_size: int,
    max_size: int,
    expires_seconds: int,
    *,
    private: bool = False,
    attachment: bool = False,
) -> Upload:
    """A V4-signed PUT that makes `object` of `content_type` with `min_size` to `max_size` bytes, once.

    No request with a local key, one to IAM's signBlob without (then it may raise StorageUnavailable). The signature
    binds type, size and that no such object is there yet, so what was checked can't be exchanged under its name later.
    As an `attachment` it is saved and never shown by who opens it, whatever its type: no page of our media's origin.
    """
    headers = {
        "Content-Type": content_type,
        "x-goog-content-length-range": f"{min_size},{max_size}",
        "x-goog-if-generation-match": "0",
    }
    if attachment:
        headers["Content-Disposition"] = "attachment"  # which Cloud Storage keeps, and sends to all who read it
    connected = _connect()
    bucket = connected.private if private else connected.bucket
    # The client signs its own second, a little later than this: so the URL lives at least as long as we say.
    expires_at = clock.now_ms() // 1000 * 1000 + expires_seconds * 1000
    with _unavailable():
        url: str = bucket.blob(object).generate_signed_url(
            version="v4",
            method="PUT",
            expiration=expires_seconds,
            headers=dict(headers),
            credentials=connected.signer,
            api_access_endpoint=settings().storage_emulator_host or "https://storage.googleapis.com",
        )
    return Upload("PUT", url, headers, expires_at)


@running.blocking
def stat(objects: Sequence[str], *, private: bool = False) -> list[Stat | None]:
    """What is there of `objects`, in their order; None = nothing. Raises StorageUnavailable."""
    connected = _connect()
    bucket = connected.private if private else connected.bucket

    def look(name: str) -> Stat | None:
        blob = bucket.get_blob(name, timeout=TIMEOUT_SECONDS, retry=connected.retry)
        if blob is None:
            return None
        return Stat(int(blob.size), blob.content_type or "", int(blob.time_created.timestamp() * 1000))

    return _each(connected, lambda name: look(name) if _can_be(name) else None, objects)


@running.blocking
def delete(objects: Sequence[str], *, private: bool = False) -> None:
    """Delete `objects`; one that isn't there is no error. Raises StorageUnavailable: then some may be left."""
    connected = _connect()
    bucket = connected.private if private else connected.bucket
    not_found: type[Exception] = importlib.import_module("google.cloud.exceptions").NotFound

    def remove(name: str) -> None:
        try:
            # Names are never used twice (sign_upload), so deleting again after a lost answer does no harm.
            bucket.delete_blob(name, timeout=TIMEOUT_SECONDS, retry=connected.retry)
        except not_found:
            pass

    _each(connected, remove, [name for name in objects if _can_be(name)])


@running.blocking
def put_private(object: str, contents: BinaryIO, content_type: str, filename: str) -> None:
    """Write `contents` as `object` in the private bucket, where only a signed URL reads it, as a download `filename`.

    What was there under its name is written over. Raises StorageUnavailable.
    """
    connected = _connect()
    blob = connected.private.blob(object)
    blob.content_disposition = f'attachment; filename="{filename}"'
    # Nothing keeps a copy of what is someone's alone.
    blob.cache_control = "private, no-store"
    _timed(
        lambda: blob.upload_from_file(
            contents, rewind=True, content_type=content_type, timeout=TIMEOUT_SECONDS, retry=connected.retry
        )
    )


@running.blocking
def sign_download(object: str, expires_seconds: int) -> str:
    """A V4-signed URL that reads `object` of the private bucket for `expires_seconds`, a week at most.

    No request with a local key; without, as of sign_upload.
    """
    connected = _connect()
    with _unavailable():
        return connected.private.blob(object).generate_signed_url(
            version="v4",
            method="GET",
            expiration=expires_seconds,
            credentials=connected.signer,
            api_access_endpoint=settings().storage_emulator_host or "https://storage.googleapis.com",
        )


def public_url(object: str) -> str:
    """Where anyone who knows its name reads `object`. No request, no signature."""
    return f"{settings().media_base_url}/{quote(object, safe='/~')}"


def private_url(object: str, seconds: int = _HOUR + RETOLD_SECONDS) -> str:
    """Where who is given this URL reads `object` of the private bucket, for so long and up to an hour more. No request.

    It is Cloud CDN's signed URL: https://cloud.google.com/cdn/docs/using-signed-urls.
    """
    return _signed_for_cdn(object, ((clock.now_ms() // 1000 + seconds) // _HOUR + 1) * _HOUR)


@lru_cache(1 << 14)
def _signed_for_cdn(object: str, expires: int) -> str:
    kid, key = next(iter(settings().media_keys.items()))
    url = f"{settings().private_media_base_url}/{quote(object, safe='/~')}?Expires={expires}&KeyName={kid}"
    signature = base64.urlsafe_b64encode(hmac.digest(key, url.encode(), "sha1")).decode()
    return f"{url}&Signature={signature}"


def list_older_than(prefix: str, before_ms: int) -> Iterator[list[str]]:
    """Names under `prefix` of objects made before the instant `before_ms`, in pages of up to 1000, none empty.

    Objects may be deleted between pages. Raises StorageUnavailable.
    """
    connected = _connect()
    listing = connected.bucket.list_blobs(
        prefix=prefix,
        page_size=PAGE,
        fields="items(name,timeCreated),nextPageToken",
        timeout=TIMEOUT_SECONDS,
        retry=connected.retry,
    )
    pages: Iterator[Any] = iter(listing.pages)
    while (page := _timed(lambda: next(pages, None))) is not None:
        names = [blob.name for blob in page if blob.time_created.timestamp() * 1000 < before_ms]
        if names:
            yield names


@running.blocking
def ping() -> None:
    """One small request, tried once. Raises StorageUnavailable."""
    bucket = _connect().bucket
    _timed(lambda: bucket.exists(timeout=TIMEOUT_SECONDS, retry=None))


def _each(connected: Connected, action: Callable[[str], T], objects: Sequence[str]) -> list[T]:
    """`action` of each, side by side: one trip as to time."""
    if not objects:
        return []
    return _timed(lambda: list(connected.threads.map(action, objects)), statements=len(objects))


def _timed(action: Callable[[], T], statements: int = 1) -> T:
    """Run a trip, note it in the ledger, and translate its failure."""
    started = time.perf_counter()
    try:
        with _unavailable():
            return action()
    finally:
        ledger.record("storage", time.perf_counter() - started, statements=statements)


@contextmanager
def _unavailable() -> Generator[None]:
    """Let what means that storage or IAM can't be reached be StorageUnavailable."""
    api: Any = importlib.import_module("google.api_core.exceptions")
    auth: Any = importlib.import_module("google.auth.exceptions")
    requests: Any = importlib.import_module("requests")
    down = (
        requests.exceptions.RequestException,
        ConnectionError,
        TimeoutError,
        api.RetryError,
        api.ServerError,
        api.TooManyRequests,
        auth.TransportError,
        auth.RefreshError,
    )
    try:
        yield
    except down as error:
        raise StorageUnavailable from error


def _can_be(name: str) -> bool:
    """Whether Cloud Storage could have an object of this name; names come from clients."""
    if name in ("", ".", "..") or not name.isprintable():  # lone surrogates, CR, LF and NUL aren't printable
        return False
    return len(name.encode()) <= NAME_BYTES


def _connect() -> Connected:
    """The one of this process, made when first needed. Raises StorageUnavailable."""
    global _connected
    if _connected is None:
        with _lock:
            if _connected is None:
                with _unavailable():
                    _connected = _new()
    return _connected


def _new() -> Connected:
    storage: Any = importlib.import_module("google.cloud.storage")
    retries: Any = importlib.import_module("google.cloud.storage.retry")
    chosen = settings()
    if chosen.storage_emulator_host:
        auth: Any = importlib.import_module("google.auth.credentials")
        client: Client = storage.Client(
            project=chosen.google_cloud_project,
            credentials=auth.AnonymousCredentials(),
            client_options={"api_endpoint": chosen.storage_emulator_host},
        )
    else:
        client = storage.Client(project=chosen.google_cloud_project)
    retry = retries.DEFAULT_RETRY.with_delay(initial=0.1, maximum=1.0, multiplier=2.0).with_timeout(RETRY_SECONDS)
    threads = ThreadPoolExecutor(PARALLEL, "storage")
    buckets = client.bucket(chosen.storage_bucket), client.bucket(chosen.private_bucket)
    return Connected(*buckets, _signer(chosen.storage_signer_file), retry, threads)


def _signer(file: str) -> Any:
    """Credentials that sign: a key file's, those of the environment if they hold a key, or else IAM's signBlob."""
    if file:
        accounts: Any = importlib.import_module("google.oauth2.service_account")
        return accounts.Credentials.from_service_account_file(file)
    auth: Any = importlib.import_module("google.auth")
    own, _ = auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    if isinstance(own, auth.credentials.Signing):
        return own
    iam: Any = importlib.import_module("shared.kernel.signing_iam")
    transport: Any = importlib.import_module("google.auth.transport.requests")
    return iam.IamCredentials(own, partial(transport.Request(), timeout=TIMEOUT_SECONDS[1]))
