"""Exports: an archive of all that is held on a user, made in the background, and a link to it that is mailed."""

import secrets
import tempfile
import zipfile
from typing import Any, BinaryIO, Final

import msgspec

from shared.accounts import export_store as store
from shared.accounts.model import DAY_MS, Export, ExportMade, ExportRequested, ExportsExpired
from shared.kernel import clock, db, events, ids, storage
from shared.kernel.config import settings
from shared.kernel.endpoint import Caller
from shared.kernel.problems import TooManyRequests, Unauthorized

# How long the link is good for, and the archive is kept. Cloud Storage signs for a week at most.
KEPT_MS: Final = 3 * DAY_MS
_SWEEP_BATCH: Final = 100


def request(caller: Caller) -> Export:
    """Have an archive made and its link mailed. Raises TooManyRequests within a day of the last."""
    now, export_id = clock.now_ms(), ids.new_id()
    with db.transaction() as conn:
        if store.LOCK.maybe(conn, user_id=caller.user_id) is None:
            raise Unauthorized("session_ended", "This session has ended. Sign in again.")
        newest = store.NEWEST.maybe(conn, user_id=caller.user_id)
        if newest is not None and newest.at > now - DAY_MS:
            # Never more than a day, by whoever's clock it was asked for.
            wait = min(newest.at + DAY_MS - now, DAY_MS)
            raise TooManyRequests(-(-wait // 1000), "one_export_a_day")
        store.INSERT.run(
            conn,
            id=export_id,
            user_id=caller.user_id,
            object=f"exports/{secrets.token_urlsafe(32)}.zip",
            now=now,
            # Moved on when the archive is made.
            expires=now + KEPT_MS,
        )
        events.emit(conn, ExportRequested(export_id, caller.user_id))
    events.after_commit()
    return Export(now)


def make(event: ExportRequested) -> None:
    """Make the archive, unless it is there. One that was half made is written over. Raises StorageUnavailable."""
    with db.connection() as conn:
        export = store.FIND.maybe(conn, id=event.export_id)
    if export is None or export.made_at is not None:
        return
    with tempfile.TemporaryFile() as file:
        _write(file, event.user_id, export.username)
        storage.put_private(export.object, file, "application/zip", f"i9lyfe-{export.username}.zip")
    now = clock.now_ms()
    with db.transaction() as conn:
        if store.MADE.run(conn, id=export.id, now=now, expires=now + KEPT_MS):
            events.emit(conn, ExportMade(export.id))
        elif store.FIND.maybe(conn, id=export.id) is None:
            # The account was deleted meanwhile, and its archives with it: so is this one.
            events.emit(conn, ExportsExpired([export.object]))
    events.after_commit()


def _write(file: BinaryIO, user_id: int, username: str) -> None:
    counts: dict[str, int] = {}
    whose = {"user_id": user_id, "username": username, "media": settings().media_base_url}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for section in store.SECTIONS:
            with archive.open(section.file, "w", force_zip64=True) as out:
                counts[section.file] = _write_items(out, section, whose)
        index = {"username": username, "made_at": clock.now_ms(), "items": counts}
        archive.writestr("index.json", msgspec.json.format(msgspec.json.encode(index)))


def _write_items(out: Any, section: store.Section, whose: dict[str, Any]) -> int:
    """A list, a page at a time: an account of any size takes the same memory."""
    count = 0
    out.write(b"[")
    with db.transaction() as conn:
        section.items.run(conn, **whose)
        while rows := store.NEXT.all(conn):
            for row in rows:
                out.write((b",\n" if count else b"\n") + _with_links(row))
                count += 1
    out.write(b"\n]\n")
    return count


def _with_links(row: store.ItemRow) -> bytes:
    """An item, with where its private objects can be read as long as the archive can."""
    if not row.private:
        return row.json.encode()
    links = {name: storage.private_url(name, KEPT_MS // 1000) for name in row.private}
    return row.json.encode()[:-1] + b',"links":' + msgspec.json.encode(links) + b"}"


class Link(msgspec.Struct, frozen=True):
    """Where an archive can be read until `expires_at`, and whose it is."""

    url: str
    expires_at: int
    username: str
    email: str


def link(event: ExportMade) -> Link | None:
    """The link to mail; None when it is over, or the account is gone. Raises StorageUnavailable."""
    with db.connection() as conn:
        export = store.FIND.maybe(conn, id=event.export_id)
    seconds = 0 if export is None else (export.expires_at - clock.now_ms()) // 1000
    if export is None or seconds < 1:
        return None
    url = storage.sign_download(export.object, seconds)
    return Link(url, export.expires_at, export.username, export.email)


def sweep_expired() -> None:
    """Let go of archives whose links are over, a batch at a time. Safe to run twice at once."""
    full = True
    while full:
        with db.transaction() as conn:
            expired = [row.object for row in store.TAKE_EXPIRED.all(conn, before=clock.now_ms(), limit=_SWEEP_BATCH)]
            if expired:
                events.emit(conn, ExportsExpired(expired))
        full = len(expired) == _SWEEP_BATCH


def delete(event: ExportsExpired) -> None:
    """Delete archives. Those already gone are as they should be. Raises StorageUnavailable."""
    storage.delete(event.objects, private=True)
