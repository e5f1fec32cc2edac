"""The SQL of notifications."""

import msgspec

from shared.kernel import db


class GroupRow(msgspec.Struct, frozen=True):
    """A group and its latest actors, newest first."""

    id: int
    user_id: int
    type: str
    subject: str
    latest_id: int | None
    actor_count: int
    unread: bool
    version: int
    actors: list[int]


class ChangedRow(msgspec.Struct, frozen=True):
    """A group after a change."""

    id: int
    version: int


class CountRow(msgspec.Struct, frozen=True):
    """A count."""

    count: int


# The group, made if need be, and locked: acts on it come one after another. The update is for the lock and changes
# nothing: an act that was heard before must not look like a change.
LOCK_GROUP = db.Statement(
    """INSERT INTO notifications AS n (id, user_id, type, subject) VALUES (:id, :user_id, :type, :subject)
       ON CONFLICT (user_id, type, subject) DO UPDATE SET version = n.version RETURNING id, version""",
    ChangedRow,
)
# Gives a row only if the act is newer than what was heard of this actor.
SET_ACT = db.Statement(
    """INSERT INTO notification_actors AS a (notification_id, actor_id, act_id, act_version)
       VALUES (:id, :actor_id, :act_id, :version)
       ON CONFLICT (notification_id, actor_id)
       DO UPDATE SET act_id = excluded.act_id, act_version = excluded.act_version
         WHERE a.act_version < excluded.act_version RETURNING notification_id, act_version""",
    ChangedRow,
)
# Counts come from the set itself. A new act makes the group unread; one undone leaves that as it was. Gives a row
# unless there was nothing in it and still is: of that nobody is told.
RECOUNT = db.Statement(
    """UPDATE notifications SET version = version + 1,
         actor_count = (SELECT count(*) FROM notification_actors WHERE notification_id = :id AND act_id IS NOT NULL),
         latest_id = (SELECT max(act_id) FROM notification_actors WHERE notification_id = :id),
         unread = CASE WHEN :added THEN true ELSE unread END
       WHERE id = :id AND (actor_count > 0 OR :added) RETURNING id, version""",
    ChangedRow,
)
_COLUMNS = """n.id, n.user_id, n.type, n.subject, n.latest_id, n.actor_count, n.unread, n.version,
  ARRAY(SELECT actor_id FROM notification_actors a WHERE a.notification_id = n.id AND a.act_id IS NOT NULL
         ORDER BY a.act_id DESC LIMIT 3)"""
OF_USER = db.Statement(
    f"""SELECT {_COLUMNS} FROM notifications n WHERE n.user_id = :user_id AND n.latest_id < :before
         ORDER BY n.latest_id DESC LIMIT :limit""",
    GroupRow,
)
BY_ID = db.Statement(f"SELECT {_COLUMNS} FROM notifications n WHERE n.id = :id", GroupRow)
UNREAD = db.Statement(
    """SELECT count(*) FROM (SELECT FROM notifications
        WHERE user_id = :user_id AND latest_id IS NOT NULL AND unread LIMIT 1000) n""",
    CountRow,
)
# Not a new version: what is still to be told is told all the same, and having been read is not told.
MARK_ALL_READ = db.Statement(
    """UPDATE notifications SET unread = false
        WHERE user_id = :user_id AND latest_id IS NOT NULL AND unread RETURNING id, version""",
    ChangedRow,
)
