"""Authorising uploads, attaching what was uploaded, sweeping what was not."""

import secrets
from collections.abc import Sequence

import msgspec

from shared.kernel import clock, db, events, storage
from shared.kernel.endpoint import Caller
from shared.kernel.problems import FieldError, Invalid
from shared.media import store
from shared.media.model import (
    ORPHAN_MS,
    Kind,
    MediaReleased,
    Purpose,
    Upload,
    UploadRequest,
    Uploads,
    Variant,
    extension_of,
    is_private,
    kind_of,
)

EXPIRES_SECONDS = 15 * 60
SWEEP_BATCH = 500


class Wanted(msgspec.Struct, frozen=True):
    """An object that a request names: at `field`, for `purpose`, as `variant`, of one of `kinds`."""

    field: str
    object: str
    purpose: Purpose
    variant: Variant
    kinds: tuple[Kind, ...]


def authorize(caller: Caller, request: UploadRequest) -> Uploads:
    """Sign an upload URL a file, each for one type and one exact size."""
    # 192 random bits: a public object is protected by its name alone.
    names = [
        f"{request.purpose}/{secrets.token_urlsafe(24)}.{extension_of(file.content_type)}" for file in request.files
    ]
    uploads: list[Upload] = []
    for name, file in zip(names, request.files, strict=True):
        signed = storage.sign_upload(
            name,
            file.content_type,
            file.size,
            file.size,
            EXPIRES_SECONDS,
            private=is_private(name),
            attachment=kind_of(file.content_type) == "file",
        )
        uploads.append(Upload(name, signed.method, signed.url, signed.headers, signed.expires_at))
    with db.connection() as conn:
        store.AUTHORIZE.run(
            conn,
            user_id=caller.user_id,
            purpose=request.purpose,
            objects=names,
            variants=[file.variant for file in request.files],
            content_types=[file.content_type for file in request.files],
            sizes=[file.size for file in request.files],
            now=clock.now_ms(),
        )
    return Uploads(uploads)


def check(caller: Caller, wanted: Sequence[Wanted]) -> dict[str, str]:
    """The content types of objects named for one purpose. Raises Invalid, a fault for each that can't be attached."""
    names = [want.object for want in wanted]
    with db.connection() as conn:
        rows = {row.object: row for row in store.FIND.all(conn, objects=names)}
    found: list[FieldError] = []
    stats = dict(zip(names, storage.stat(names, private=is_private(names[0])), strict=True)) if rows else {}
    seen: set[str] = set()
    for want in wanted:
        row = rows.get(want.object)
        stat = stats.get(want.object)
        # A foreign object is told like an absent one: names are secrets.
        if row is None or row.user_id != caller.user_id:
            fault = ("not_found", "You have authorised no such upload.")
        elif row.attached_to is not None or want.object in seen:
            fault = ("already_attached", "This object is attached already.")
        elif row.purpose != want.purpose or row.variant != want.variant:
            fault = ("wrong_purpose", f"This object is for {row.purpose}, as {row.variant}.")
        elif kind_of(row.content_type) not in want.kinds:
            fault = ("wrong_content_type", f"Expected {' or '.join(want.kinds)}, got {row.content_type}.")
        elif stat is None:
            fault = ("not_uploaded", "Its bytes have not been uploaded.")
        elif stat.size != row.size or stat.content_type != row.content_type:
            fault = ("not_as_authorised", "What was uploaded has another size or type.")
        else:
            seen.add(want.object)
            continue
        found.append(FieldError(want.field, *fault))
    if found:
        raise Invalid(found)
    return {name: row.content_type for name, row in rows.items()}


def attach(conn: db.Connection, caller: Caller, owner: str, wanted: Sequence[Wanted]) -> None:
    """Attach checked objects to `owner` in its transaction. Raises Invalid if another request was quicker."""
    attached = store.ATTACH.all(conn, owner=owner, user_id=caller.user_id, objects=[want.object for want in wanted])
    taken = {row.object for row in attached}
    late = [want for want in wanted if want.object not in taken]
    if late:
        raise Invalid([FieldError(w.field, "already_attached", "This object is attached already.") for w in late])


def release(conn: db.Connection, owner: str) -> None:
    """Let go of all that is attached to `owner`; a background function deletes it from storage."""
    released = [row.object for row in store.RELEASE.all(conn, owner=owner)]
    if released:
        events.emit(conn, MediaReleased(released))


def delete(objects: Sequence[str]) -> None:
    """Delete objects from storage, each where it lies. Those already gone are as they should be."""
    storage.delete([name for name in objects if not is_private(name)])
    storage.delete([name for name in objects if is_private(name)], private=True)


def sweep_orphans() -> int:
    """Release a batch of uploads that nobody attached within a day; answers how many. Safe to run twice at once."""
    with db.transaction() as conn:
        orphans = [
            row.object for row in store.TAKE_ORPHANS.all(conn, before=clock.now_ms() - ORPHAN_MS, limit=SWEEP_BATCH)
        ]
        if orphans:
            events.emit(conn, MediaReleased(orphans))
    return len(orphans)
