"""What the emulator holds, in SQLite: buckets, objects (as the JSON API's resources) and resumable uploads.

One thread does all of it, so a precondition and the change it guards are one step. A commit is on the disk when it
returns. Names are only ever values in a table; the bytes lie under random names (storage_blobs).
"""

import asyncio
import base64
import json
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from infra.local.storage_blobs import Blob
from infra.local.storage_errors import StorageError, invalid, no_such_bucket, no_such_key, precondition_failed

Resource = dict[str, Any]
R = TypeVar("R")

WRITABLE = (
    "contentType",
    "cacheControl",
    "contentDisposition",
    "contentEncoding",
    "contentLanguage",
    "customTime",
    "metadata",
)
_RESERVED_BUCKETS = {"storage", "upload", "download", "batch", "healthz"}
_SCHEMA = """
CREATE TABLE IF NOT EXISTS buckets (name TEXT PRIMARY KEY, resource TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS objects (
    bucket TEXT NOT NULL REFERENCES buckets (name),
    name TEXT NOT NULL,
    blob TEXT NOT NULL UNIQUE,
    resource TEXT NOT NULL,
    PRIMARY KEY (bucket, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS uploads (
    id TEXT PRIMARY KEY,
    started_at INTEGER NOT NULL, -- seconds since the epoch
    request TEXT NOT NULL,
    received INTEGER NOT NULL,
    result TEXT
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Conditions:
    """What must hold of the object that is there now; None = not asked. A generation of 0 means no object."""

    generation: int | None = None
    not_generation: int | None = None
    metageneration: int | None = None
    not_metageneration: int | None = None

    def check(self, current: Resource | None) -> None:
        """Raises StorageError 412 if they don't hold."""
        generation = int(current["generation"]) if current else 0
        metageneration = int(current["metageneration"]) if current else 0
        if (
            (self.generation is not None and generation != self.generation)
            or (self.not_generation is not None and generation == self.not_generation)
            or (self.metageneration is not None and metageneration != self.metageneration)
            or (self.not_metageneration is not None and metageneration == self.not_metageneration)
        ):
            raise precondition_failed()


class Index:
    """The tables. Methods are plain; `call` runs one in the index's own thread."""

    def __init__(self, file: Path):
        self._thread = ThreadPoolExecutor(1, "index")
        self._db = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            self._db.execute(f"PRAGMA {pragma}").fetchall()
        self._db.executescript(_SCHEMA)
        row = self._db.execute("SELECT max(json_extract(resource, '$.generation') + 0) FROM objects").fetchone()
        self._generation: int = row[0] or 0

    async def call(self, action: Callable[..., R], *args: Any) -> R:
        """Run one of these methods in the index's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, action, *args)

    def close(self) -> None:
        """Finish what runs, and close the file."""
        self._thread.shutdown()
        self._db.close()

    # buckets

    def create_bucket(self, name: str, given: Resource) -> Resource:
        """A new bucket. Raises StorageError 400 or 409."""
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]", name) or name in _RESERVED_BUCKETS:
            raise StorageError(400, "InvalidBucketName", "The specified bucket is not valid.", repr(name))
        at = _rfc3339()
        resource = {"kind": "storage#bucket", "id": name, "name": name, "location": "US", "storageClass": "STANDARD"}
        resource |= given | {"name": name, "timeCreated": at, "updated": at, "metageneration": "1"}
        try:
            self._db.execute("INSERT INTO buckets VALUES (?, ?)", (name, json.dumps(resource)))
        except sqlite3.IntegrityError:
            raise StorageError(409, "BucketNameUnavailable", "The requested bucket name is not available.") from None
        return resource

    def bucket(self, name: str) -> Resource:
        """Raises StorageError 404."""
        row = self._db.execute("SELECT resource FROM buckets WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise no_such_bucket(name)
        return json.loads(row[0])

    def buckets(self) -> list[Resource]:
        """All of them, by name."""
        return [json.loads(row[0]) for row in self._db.execute("SELECT resource FROM buckets ORDER BY name")]

    def patch_bucket(self, name: str, given: Resource) -> Resource:
        """With the fields of `given` in place of its own; None takes one out."""
        resource = self.bucket(name)
        fixed = {key: resource[key] for key in ("kind", "id", "name", "timeCreated")}
        version = str(int(resource["metageneration"]) + 1)
        resource |= given | fixed | {"updated": _rfc3339(), "metageneration": version}
        resource = {key: value for key, value in resource.items() if value is not None}
        self._db.execute("UPDATE buckets SET resource = ? WHERE name = ?", (json.dumps(resource), name))
        return resource

    def delete_bucket(self, name: str) -> None:
        """Raises StorageError 404, or 409 if it isn't empty."""
        self.bucket(name)
        try:
            self._db.execute("DELETE FROM buckets WHERE name = ?", (name,))
        except sqlite3.IntegrityError:
            raise StorageError(409, "BucketNotEmpty", "The bucket you tried to delete is not empty.") from None

    # objects

    def find(self, bucket: str, name: str) -> tuple[Resource, str] | None:
        """The object's resource and its blob."""
        row = self._db.execute(
            "SELECT resource, blob FROM objects WHERE bucket = ? AND name = ?", (bucket, name)
        ).fetchone()
        return (json.loads(row[0]), row[1]) if row else None

    def check(self, bucket: str, name: str, conditions: Conditions) -> None:
        """Whether an object could be put there now. Raises StorageError 400, 404 (no bucket) or 412."""
        check_name(name)
        self.bucket(bucket)
        found = self.find(bucket, name)
        conditions.check(found[0] if found else None)

    def get(self, bucket: str, name: str, conditions: Conditions | None = None) -> tuple[Resource, str]:
        """As `find`. Raises StorageError 404 or 412."""
        found = self.find(bucket, name)
        if found is None:
            self.bucket(bucket)
            raise no_such_key(bucket, name)
        (conditions or Conditions()).check(found[0])
        return found

    def put(self, bucket: str, name: str, blob: Blob, given: Resource, conditions: Conditions) -> tuple[Resource, str]:
        """Let `name` be `blob`. Returns its resource, and the id of the blob it replaces or "".

        Raises StorageError 404 (no bucket) or 412.
        """
        self.check(bucket, name, conditions)
        replaced = self.find(bucket, name)
        self._generation = max(self._generation + 1, time.time_ns() // 1000)
        at = _rfc3339()
        resource: Resource = {
            "kind": "storage#object",
            "id": f"{bucket}/{name}/{self._generation}",
            "bucket": bucket,
            "name": name,
            "generation": str(self._generation),
            "metageneration": "1",
            "contentType": "application/octet-stream",
            "storageClass": "STANDARD",
            "size": str(blob.size),
            "md5Hash": blob.md5,
            "crc32c": blob.crc32c,
            "timeCreated": at,
            "updated": at,
            "timeStorageClassUpdated": at,
        }
        resource |= writable(given)
        self._save(bucket, name, blob.id, resource)
        return resource, replaced[1] if replaced else ""

    def patch(self, bucket: str, name: str, given: Resource, conditions: Conditions) -> Resource:
        """With the writable fields of `given` in place of its own. Raises StorageError 404 or 412."""
        resource, blob = self.get(bucket, name, conditions)
        changes = {key: given[key] for key in WRITABLE if key in given}
        if isinstance(changes.get("metadata"), dict):  # a patch of metadata goes key by key
            merged = resource.get("metadata", {}) | changes["metadata"]
            changes["metadata"] = {key: value for key, value in merged.items() if value is not None}
        writable(changes)
        resource |= changes | {"updated": _rfc3339(), "metageneration": str(int(resource["metageneration"]) + 1)}
        resource = {key: value for key, value in resource.items() if value is not None}
        self._save(bucket, name, blob, resource)
        return resource

    def delete(self, bucket: str, name: str, conditions: Conditions) -> str:
        """Forget it; returns the id of its blob. Raises StorageError 404 or 412."""
        _, blob = self.get(bucket, name, conditions)
        self._db.execute("DELETE FROM objects WHERE bucket = ? AND name = ?", (bucket, name))
        return blob

    def objects_from(self, bucket: str, start: str, end: str) -> Iterator[tuple[str, Resource]]:
        """Names and resources from `start` on and below `end` ("" = all), in order. Raises StorageError 404."""
        self.bucket(bucket)
        rows = self._db.execute(
            "SELECT name, resource FROM objects WHERE bucket = ? AND name >= ? AND (? = '' OR name < ?) ORDER BY name",
            (bucket, start, end, end),
        )
        return ((name, json.loads(resource)) for name, resource in rows)

    def blobs(self) -> set[str]:
        """The ids of all blobs that objects have."""
        return {row[0] for row in self._db.execute("SELECT blob FROM objects")}

    def _save(self, bucket: str, name: str, blob: str, resource: Resource) -> None:
        version = f"{resource['generation']}/{resource['metageneration']}"
        resource["etag"] = base64.b64encode(version.encode()).decode()
        self._db.execute("REPLACE INTO objects VALUES (?, ?, ?, ?)", (bucket, name, blob, json.dumps(resource)))

    # resumable uploads

    def start_upload(self, id: str, request: Resource) -> None:
        """Remember an upload that will come in parts."""
        self._db.execute("INSERT INTO uploads VALUES (?, ?, ?, 0, NULL)", (id, int(time.time()), json.dumps(request)))

    def upload(self, id: str) -> tuple[Resource, int, Resource | None] | None:
        """What was asked, the bytes received so far, and the object if it is complete."""
        row = self._db.execute("SELECT request, received, result FROM uploads WHERE id = ?", (id,)).fetchone()
        return (json.loads(row[0]), row[1], json.loads(row[2]) if row[2] else None) if row else None

    def advance_upload(self, id: str, received: int, result: Resource | None) -> None:
        """Note how far it is, or that it is complete."""
        answer = json.dumps(result) if result else None
        self._db.execute("UPDATE uploads SET received = ?, result = ? WHERE id = ?", (received, answer, id))

    def drop_upload(self, id: str) -> None:
        """Forget it."""
        self._db.execute("DELETE FROM uploads WHERE id = ?", (id,))

    def live_uploads(self, seconds: int) -> set[str]:
        """The ids of uploads begun within `seconds` and not complete; older ones are forgotten."""
        self._db.execute("DELETE FROM uploads WHERE started_at < ?", (int(time.time()) - seconds,))
        return {row[0] for row in self._db.execute("SELECT id FROM uploads WHERE result IS NULL")}


def writable(given: Resource) -> Resource:
    """The fields of an object that an upload may set. Raises StorageError 400 for one of the wrong type."""
    chosen = {key: given[key] for key in WRITABLE if given.get(key) is not None}
    metadata = chosen.get("metadata", {})
    texts = [value for key, value in chosen.items() if key != "metadata"]
    if not isinstance(metadata, dict) or not all(_is_text(t) for t in (*texts, *metadata.values())):
        raise invalid("Metadata must be strings without control characters.")
    if not all(re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", key) for key in metadata):
        raise invalid("Metadata keys must be HTTP tokens.")
    return chosen


def _is_text(value: object) -> bool:
    """Whether it can stand in a header."""
    return isinstance(value, str) and not re.search("[\0-\x1f\x7f\ud800-\udfff]", value)


def check_name(name: str) -> None:
    """Raises StorageError 400 for what can't be an object's name: https://cloud.google.com/storage/docs/objects."""
    if len(name.encode("utf-8", "replace")) > 1024:
        raise StorageError(400, "KeyTooLong", "Your key is too long.")
    if name in ("", ".", "..") or re.search("[\0\r\n\ud800-\udfff]", name) or name.startswith(".well-known/acme-"):
        raise StorageError(400, "InvalidObjectName", "The specified object name is not valid.")


def _rfc3339() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
