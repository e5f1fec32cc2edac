"""The SQL of notifications."""

import msgspec

from shared.kernel import db
from shared.kernel.moving import wanted_sql
from shared.visibility.model import MAY_NOT_NOTIFY_SQL, SEES_SQL


class GroupRow(msgspec.Struct, frozen=True):
    """A group as its owner may see it, latest actors first. Only `latest_id`, by which it is ordered, is anyone's.

    It is about a post, or about a comment on one, or about its owner.
    """

    id: int
    user_id: int
    type: str
    subject: str
    latest_id: int | None
    seen_id: int | None
    actor_count: int
    unread: bool
    version: int
    actors: list[int]
    post_id: int | None
    post_author_id: int | None
    comment_id: int | None
    comment_author_id: int | None


class ToldRow(GroupRow, frozen=True):
    """A group, who of the newest that acted in it is hidden from its owner, and when it was read.

    `as_of` is how many transactions had ended by then: of two that read different things, the later has more.
    """

    hidden: list[int]
    as_of: int


class GroupKeyRow(msgspec.Struct, frozen=True):
    """A group's id, what makes it that group, and whether its owner wants none of its type."""

    id: int
    user_id: int
    type: str
    subject: str
    unwanted: bool


class HeardRow(msgspec.Struct, frozen=True):
    """What acts that were news change in a group: how many more actors there are, and the oldest act that is new."""

    id: int
    step: int
    added_id: int | None


class OwnerRow(msgspec.Struct, frozen=True):
    """Whose a notification is."""

    user_id: int


class SettingsRow(msgspec.Struct, frozen=True):
    """The types that a user wants none of."""

    unwanted: list[str]


class IdRow(msgspec.Struct, frozen=True):
    """The id of a group."""

    id: int


class CountRow(msgspec.Struct, frozen=True):
    """A count."""

    count: int


# The groups, made if need be, and locked: acts on one come one after another, and who locks several does so in one
# order. The update is for the lock and changes nothing: an act that was heard before must not look like a change.
LOCK_GROUPS = db.Statement(
    """INSERT INTO notifications AS n (id, user_id, type, subject)
       SELECT id, user_id, type, subject
         FROM unnest(CAST(:ids AS bigint[]), CAST(:user_ids AS bigint[]), CAST(:kinds AS text[]),
                     CAST(:subjects AS text[])) AS g (id, user_id, type, subject)
        ORDER BY user_id, type, subject
       ON CONFLICT (user_id, type, subject) DO UPDATE SET version = n.version
       RETURNING id, user_id, type, subject,
                 EXISTS (SELECT FROM notification_settings s
                          WHERE s.user_id = n.user_id AND n.type = ANY(s.unwanted))""",
    GroupKeyRow,
)
# Only what is newer than what was heard of this actor is taken, and gives a row for its group if it changes anything:
# the same act under a newer version is no news, nor is that one who was not in the group still isn't. `before` sees the
# actors as they were when the statement began; the groups are locked, so that nobody else changes them. Of what is
# unwanted only what takes back is taken: an act undone, or the one before it in its place. Of one whose account was
# deleted nothing is heard any more: their acts are erased (shared/accounts/erasure_store.py).
SET_ACTS = db.Statement(
    """WITH act AS MATERIALIZED (
         SELECT * FROM unnest(CAST(:ids AS bigint[]), CAST(:actor_ids AS bigint[]), CAST(:act_ids AS bigint[]),
                              CAST(:versions AS bigint[]), CAST(:unwanted AS boolean[]))
                       AS a (id, actor_id, act_id, version, unwanted)
          WHERE EXISTS (SELECT FROM users u WHERE u.id = a.actor_id AND u.state <> 'deleted')
       ), before AS MATERIALIZED (
         SELECT a.notification_id, a.actor_id, a.act_id FROM act
           JOIN notification_actors a ON a.notification_id = act.id AND a.actor_id = act.actor_id
          WHERE a.act_id IS NOT NULL
       ), heard AS (
         INSERT INTO notification_actors AS a (notification_id, actor_id, act_id, act_version)
         SELECT act.id, act.actor_id, act.act_id, act.version
           FROM act LEFT JOIN before b ON b.notification_id = act.id AND b.actor_id = act.actor_id
          WHERE NOT act.unwanted OR act.act_id IS NULL OR act.act_id <= b.act_id
         ON CONFLICT (notification_id, actor_id)
         DO UPDATE SET act_id = excluded.act_id, act_version = excluded.act_version
           WHERE a.act_version < excluded.act_version
         RETURNING notification_id, actor_id, act_id
       )
       SELECT notification_id, count(heard.act_id) - count(before.actor_id),
              min(heard.act_id) FILTER (WHERE heard.act_id > coalesce(before.act_id, 0))
         FROM heard LEFT JOIN before USING (notification_id, actor_id)
        WHERE heard.act_id IS DISTINCT FROM before.act_id GROUP BY notification_id""",
    HeardRow,
)
# Counted by steps, so that a group of a million costs no more than one of three. A new act makes the group unread, also
# one heard so late that a newer one was read. One undone leaves that as it was, unless nothing is left that is newer
# than what was read. Gives the owner unless there was nothing in it and still is: of that nobody is told.
#
# The event that tells it live is due `:apart` after it was last told. While one is on its way, that one tells this
# change too, and there is no other: unless it has been overdue since `:lost`, and may never come. What is undone by one
# who isn't seen is no news while others are left, nor a newer version: under that an event that comes again would tell
# it. Its own event is for what is cached, and in case that none of the others is seen.
_TELL = """INSERT INTO outbox (topic, payload, trace, created_at, due_at)
         SELECT 'notification_changed',
                convert_to(CAST(json_build_object('notification_id', id, 'user_id', user_id,
                                                  'due_at', coalesce(tell_at, :now), 'news', tell_at IS NOT NULL)
                                AS text), 'UTF8'),
                :trace, :now, coalesce(tell_at, :now)
           FROM changed WHERE on_its_way IS NOT TRUE"""
_NEWS = "(h.seen OR n.actor_count + h.step = 0 OR n.tell_at IS NOT NULL)"
COUNT_ACTS = db.Statement(
    f"""WITH changed AS (
         UPDATE notifications n SET version = n.version + CAST({_NEWS} AS integer),
                actor_count = n.actor_count + h.step, latest_id = stands.latest_id,
                read_id = least(n.read_id, h.added_id - 1),
                unread = h.added_id IS NOT NULL OR n.unread AND coalesce(stands.latest_id, 0) > n.read_id,
                tell_at = CASE WHEN n.tell_at > :lost THEN n.tell_at
                               WHEN {_NEWS} THEN greatest(:now, n.told_at + :apart) END
           FROM unnest(CAST(:ids AS bigint[]), CAST(:steps AS bigint[]), CAST(:added_ids AS bigint[]),
                       CAST(:seen AS boolean[])) AS h (id, step, added_id, seen)
          CROSS JOIN LATERAL (SELECT max(act_id) AS latest_id FROM notification_actors
                               WHERE notification_id = h.id AND act_id IS NOT NULL) stands
          WHERE n.id = h.id AND (n.actor_count > 0 OR h.added_id IS NOT NULL)
         RETURNING n.id, n.user_id, n.tell_at, old.tell_at > :lost AS on_its_way
       ), told AS (
         {_TELL}
       )
       SELECT DISTINCT user_id FROM changed""",
    OwnerRow,
)
# For who is to tell it, before it is read: waits for changes under way, and those to come have an event of their own.
# Nothing where another event, due later than this one, is on its way. Which one it is goes by the times in the events,
# not by anybody's clock.
BEGIN_TELLING = db.Statement(
    """UPDATE notifications SET tell_at = NULL, told_at = :now
        WHERE id = :id AND user_id = :user_id AND (tell_at IS NULL OR tell_at <= :due_at) RETURNING user_id""",
    OwnerRow,
)
# For who found more hidden than was told: an event tells it, the one that is on its way or a new one, due as above. It
# reads the group once it comes, and so this is no new version.
TELL_HIDDEN = db.Statement(
    f"""WITH changed AS (
         UPDATE notifications n SET
                tell_at = CASE WHEN n.tell_at > :lost THEN n.tell_at ELSE greatest(:now, n.told_at + :apart) END
          WHERE id = :id AND user_id = :user_id
         RETURNING n.id, n.user_id, n.tell_at, old.tell_at > :lost AS on_its_way
       )
       {_TELL}"""
)

# An event for each group of `source` that may show less, or more again: it is looked at when that is heard.
_LOOK = """INSERT INTO outbox (topic, payload, trace, created_at)
       SELECT 'notification_changed',
              convert_to(CAST(json_build_object('notification_id', id, 'user_id', user_id,
                                                'due_at', CAST(:now AS bigint), 'news', false) AS text), 'UTF8'),
              :trace, :now
         FROM {source}"""
# The gate, when it is read: who is hidden from the owner, or gone, is neither shown nor counted. Of a group the newest
# 1,000 acts are looked at, an index range, and the hidden among them taken from its count: to look at all of a million
# for each read would cost more than a number that large is worth. OFFSET 0 has `hides` worked out once an act.
_HIDDEN = f"WITH hidden AS MATERIALIZED ({MAY_NOT_NOTIFY_SQL})"
_LOOKED_AT = """(SELECT actor_id, act_id, actor_id IN (SELECT other_id FROM hidden)
                         OR EXISTS (SELECT FROM users u WHERE u.id = actor_id AND u.state <> 'active') AS hides
                    FROM (SELECT actor_id, act_id FROM notification_actors
                           WHERE notification_id = n.id AND act_id IS NOT NULL
                           ORDER BY act_id DESC LIMIT 1000) newest OFFSET 0) a"""
# What a group is about: Postgres works `subject_id` out of the subject when a group is made. Two look-ups.
_ABOUT = """LEFT JOIN LATERAL (
          SELECT p.id AS post_id, p.author_id AS post_author_id, CAST(NULL AS bigint) AS comment_id,
                 CAST(NULL AS bigint) AS comment_author_id, p.deleted_at IS NULL AS is_there
            FROM posts p WHERE starts_with(n.subject, 'post:') AND p.id = n.subject_id
           UNION ALL
          SELECT p.id, p.author_id, c.id, c.author_id, p.deleted_at IS NULL AND c.deleted_at IS NULL
            FROM comments c JOIN posts p ON p.id = c.post_id
           WHERE starts_with(n.subject, 'comment:') AND c.id = n.subject_id
        ) about ON true"""
# The other half of the gate: whether its owner may see what a group is about. Lists of groups are kept without it, so
# that nobody's have to be found when it changes: who reads one asks it.
_SHOWS = f"""(starts_with(n.subject, 'user:')
              OR about.is_there AND {SEES_SQL.format(other="about.post_author_id")}
                 AND (about.comment_id IS NULL OR {SEES_SQL.format(other="about.comment_author_id")}))"""


def _seen(acts: str, also: str = "") -> str:
    """Groups with what is seen of `acts`, those that were looked at, and `also` what else is asked of them."""
    return f"""{_HIDDEN}
       SELECT n.id, n.user_id, n.type, n.subject, n.latest_id, seen.latest_id, n.actor_count - seen.hidden,
              n.unread AND coalesce(seen.latest_id, 0) > n.read_id, n.version,
              ARRAY(SELECT unnest(seen.actors) LIMIT 3),
              about.post_id, about.post_author_id, about.comment_id, about.comment_author_id{also}
         FROM notifications n {_ABOUT}
        CROSS JOIN LATERAL (
          SELECT max(act_id) FILTER (WHERE NOT hides) AS latest_id, count(*) FILTER (WHERE hides) AS hidden,
                 array_agg(actor_id) FILTER (WHERE hides) AS hidden_actors,
                 array_agg(actor_id ORDER BY act_id DESC) FILTER (WHERE NOT hides) AS actors
            FROM {acts}
        ) seen"""


OF_USER = db.Statement(
    f"""{_seen(_LOOKED_AT)}
        WHERE n.user_id = :user_id AND {wanted_sql("n.latest_id", "n.id")} AND seen.latest_id IS NOT NULL
          AND (starts_with(n.subject, 'user:') OR about.post_id IS NOT NULL)
        ORDER BY n.latest_id DESC LIMIT :limit""",
    GroupRow,
)
# A snapshot shows what every transaction did that had ended when it was taken. How many had: those before `xmax`, the
# first that nobody had begun, or at least not ended, less those among them that were under way.
_AS_OF = """, (SELECT CAST(CAST(pg_snapshot_xmax(s) AS text) AS bigint) - (SELECT count(*) FROM pg_snapshot_xip(s))
                 FROM pg_current_snapshot() s)"""
# Nobody is seen in it where what it is about is not.
BY_ID = db.Statement(
    f"""{_seen(f"{_LOOKED_AT} WHERE {_SHOWS}", f", coalesce(seen.hidden_actors, '{{}}'){_AS_OF}")}
        WHERE n.id = :id AND n.user_id = :user_id""",
    ToldRow,
)
# Of the newest 1,000, an index range, those that show: what is hidden is looked at each time. Of most one act is.
UNREAD = db.Statement(
    f"""{_HIDDEN}
       SELECT count(*) FROM (
         SELECT * FROM notifications WHERE user_id = :user_id AND latest_id IS NOT NULL AND unread
          ORDER BY latest_id DESC LIMIT 1000) n {_ABOUT}
        WHERE {_SHOWS} AND EXISTS (SELECT FROM {_LOOKED_AT} WHERE NOT a.hides AND a.act_id > n.read_id)""",
    CountRow,
)
# Of what is about something that was deleted: it never shows again, so no list and no count is to come across it. Who
# acted in it stays. An act that comes late brings it back, and has an event for which this is done again.
RETIRE = db.Statement(
    f"""UPDATE notifications SET latest_id = NULL
        WHERE id = :id AND user_id = :user_id AND latest_id IS NOT NULL
          AND NOT (SELECT about.is_there FROM notifications n {_ABOUT} WHERE n.id = :id)"""
)
# Those of a user in which another acted, or about what is the other's: replies and reactions to what the user said on
# the other's posts, and what was said there that mentions the user. Each is a look-up, whatever else the user is told.
# But of mentions by others only those among the newest 1,000 groups: of them, and of what is said on the other's posts,
# there may be many. OFFSET 0 has groups found by their ids.
LOOK_BETWEEN = db.Statement(
    _LOOK.format(
        source="""(
          SELECT notification_id FROM notification_actors WHERE actor_id = :other_id AND act_id IS NOT NULL
           UNION
          SELECT g.id FROM posts p
            JOIN comments c ON c.author_id = :user_id AND c.post_id = p.id AND c.deleted_at IS NULL
            JOIN notifications g ON starts_with(g.subject, 'comment:') AND g.subject_id = c.id
           WHERE p.author_id = :other_id AND p.deleted_at IS NULL
           UNION
          SELECT g.id FROM (SELECT id, subject_id FROM notifications WHERE user_id = :user_id AND latest_id IS NOT NULL
                             ORDER BY latest_id DESC LIMIT 1000) g
            JOIN comments c ON c.id = g.subject_id
           WHERE c.post_author_id = :other_id
        ) found CROSS JOIN LATERAL (SELECT * FROM notifications WHERE id = notification_id OFFSET 0) n
        WHERE n.user_id = :user_id AND n.latest_id IS NOT NULL"""
    )
)
LOOK_AT = db.Statement(
    _LOOK.format(
        source="""notifications n
         JOIN unnest(CAST(:user_ids AS bigint[]), CAST(:kinds AS text[]), CAST(:subjects AS text[]))
              AS g (user_id, type, subject) USING (user_id, type, subject)
        WHERE n.latest_id IS NOT NULL"""
    )
)
# Those in which somebody acted, a batch at a time. Gives the last one's id, 0 when there are no more.
LOOK_BY = db.Statement(
    f"""WITH batch AS MATERIALIZED (
         SELECT notification_id AS id FROM notification_actors
          WHERE actor_id = :actor_id AND notification_id > :after AND act_id IS NOT NULL
          ORDER BY notification_id LIMIT :limit
       ), told AS ({_LOOK.format(source="batch JOIN notifications USING (id)")})
       SELECT CASE count(*) WHEN :limit THEN max(id) ELSE 0 END FROM batch""",
    IdRow,
)
MARK_READ = db.Statement(
    """UPDATE notifications SET unread = false, read_id = latest_id
        WHERE id = :id AND user_id = :user_id AND latest_id IS NOT NULL AND unread"""
)
# Not a new version: what is still to be told is told all the same, and having been read is not told.
MARK_ALL_READ = db.Statement(
    """WITH mine AS MATERIALIZED (
         SELECT id FROM notifications WHERE user_id = :user_id AND latest_id IS NOT NULL AND unread
          ORDER BY type, subject FOR UPDATE
       )
       UPDATE notifications SET unread = false, read_id = latest_id WHERE id IN (SELECT id FROM mine)"""
)

SETTINGS = db.Statement("SELECT unwanted FROM notification_settings WHERE user_id = :user_id", SettingsRow)
# What two change at once is changed by both: the second waits for the row, and then begins with what the first left.
EDIT_SETTINGS = db.Statement(
    """INSERT INTO notification_settings AS s (user_id, unwanted) VALUES (:user_id, CAST(:off AS text[]))
       ON CONFLICT (user_id) DO UPDATE SET unwanted =
         ARRAY(SELECT kind FROM unnest(s.unwanted) AS u (kind) WHERE kind <> ALL(CAST(:on AS text[]))
               UNION SELECT unnest(excluded.unwanted) ORDER BY 1)
       RETURNING unwanted""",
    SettingsRow,
)
