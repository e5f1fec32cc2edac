"""The SQL of uploads."""

import msgspec

from shared.kernel import db


class UploadRow(msgspec.Struct, frozen=True):
    """An upload as it was authorised."""

    object: str
    user_id: int
    purpose: str
    variant: str
    content_type: str
    size: int
    attached_to: str | None


class ObjectRow(msgspec.Struct, frozen=True):
    """An object's name."""

    object: str


AUTHORIZE = db.Statement(
    """INSERT INTO uploads (object, user_id, purpose, variant, content_type, size, created_at)
       SELECT o, :user_id, :purpose, v, t, s, :now
         FROM unnest(CAST(:objects AS text[]), CAST(:variants AS text[]), CAST(:content_types AS text[]),
                     CAST(:sizes AS bigint[])) AS u (o, v, t, s)"""
)
FIND = db.Statement(
    """SELECT object, user_id, purpose, variant, content_type, size, attached_to
         FROM uploads WHERE object = ANY(CAST(:objects AS text[]))""",
    UploadRow,
)
ATTACH = db.Statement(
    """UPDATE uploads SET attached_to = :owner
        WHERE object = ANY(CAST(:objects AS text[])) AND user_id = :user_id AND attached_to IS NULL RETURNING object""",
    ObjectRow,
)
# The rows go first: an object without one can't be attached any more, and the event deletes it however often it comes.
TAKE_ORPHANS = db.Statement(
    """DELETE FROM uploads WHERE object IN (
         SELECT object FROM uploads WHERE attached_to IS NULL AND created_at < :before
          ORDER BY created_at LIMIT :limit FOR UPDATE SKIP LOCKED) RETURNING object""",
    ObjectRow,
)
RELEASE = db.Statement("DELETE FROM uploads WHERE attached_to = :owner RETURNING object", ObjectRow)
