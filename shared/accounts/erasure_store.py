"""The SQL of erasing an account: what is erased of each table, a batch at a time.

Whoever adds a table that holds anything of a user's adds its step here, and its section to `export_store`; a test fails
until then. A step erases up to `:limit` rows of `:user_id` and tells of them in the same statement; none left, it
erases 0. Run again after it was killed, it goes on where it was.
"""

from typing import Final

import msgspec

from shared.accounts.model import ErasureDue
from shared.chat.model import ChatChanged
from shared.comments.model import CommentDeleted, CommentReacted
from shared.engagement.model import PostReacted, PostReposted, PostSaved
from shared.feed.model import AuthorErased, FeedChunk
from shared.kernel import db
from shared.kernel.events import Event
from shared.notifications.model import NotificationChanged
from shared.posts.model import PostDeleted
from shared.profiles.model import BlockChanged, FollowChanged, MuteChanged, UserChanged


class CountRow(msgspec.Struct, frozen=True):
    """How many rows there were."""

    count: int


class ErasureRow(msgspec.Struct, frozen=True):
    """An erasure under way: of whom, who had which username and address."""

    id: int
    user_id: int
    turn: int
    looks: int
    begun_at: int
    username: str
    email: str | None


class ReceiptRow(msgspec.Struct, frozen=True):
    """To whom the last mail goes, once all is erased."""

    email: str


class ObjectRow(msgspec.Struct, frozen=True):
    """An object in storage."""

    object: str


class Step(msgspec.Struct, frozen=True):
    """What is erased of a table, under its name in the receipt; `lock` comes before it, where an order must hold."""

    name: str
    erase: "db.Statement[CountRow]"
    lock: "db.Statement[CountRow] | None" = None


def _told(event: type[Event], source: str, **fields: str) -> str:
    """The part of a statement that puts an event of each row of `source` in the outbox."""
    pairs = ", ".join(f"'{name}', {value}" for name, value in fields.items())
    return f"""told_{event.topic} AS (
         INSERT INTO outbox (topic, payload, trace, created_at)
         SELECT '{event.topic}', convert_to(CAST(json_build_object({pairs}) AS text), 'UTF8'), :trace, :now
           FROM {source})"""


def _deleted(name: str, table: str, key: str, which: str) -> Step:
    """A step that deletes the rows `which` of a table, told to nobody."""
    columns = key.split(", ")
    same = " AND ".join(f"t.{column} = batch.{column}" for column in columns)
    return Step(
        name,
        db.Statement(
            f"""WITH batch AS MATERIALIZED (SELECT {key} FROM {table} WHERE {which} LIMIT :limit FOR UPDATE),
                     gone AS (DELETE FROM {table} t USING batch WHERE {same} RETURNING 1)
                SELECT count(*) FROM gone""",
            CountRow,
        ),
    )


# What is left of an account is its id and username, so that nobody else is ever taken for them; and its state.
_USER: Final = Step(
    "profile",
    db.Statement(
        f"""WITH gone AS (
              UPDATE users SET name = '', bio = '', birthday = NULL, links = '[]', picture = NULL, password_hash = '',
                     post_count = 0, follower_count = 0, following_count = 0, version = version + 1
               WHERE id = :user_id AND (name, bio, links, password_hash) IS DISTINCT FROM ('', '', '[]', '')
              RETURNING id),
            {_told(UserChanged, "gone", user_id="gone.id")}
            SELECT count(*) FROM gone""",
        CountRow,
    ),
)


def _posts(name: str, which: str) -> Step:
    """Of a post its id, author and time stay, as of any that was deleted: so that what comes late finds it gone.

    Those deleted before have been told of.
    """
    return Step(
        name,
        db.Statement(
            f"""WITH batch AS MATERIALIZED (
                  SELECT id, deleted_at IS NULL AS news FROM posts
                   WHERE author_id = :user_id AND {which} LIMIT :limit FOR UPDATE),
                gone AS (
                  UPDATE posts p SET deleted_at = coalesce(p.deleted_at, :now), description = '', media = '[]',
                         mentions = '{{}}', hashtags = '{{}}', version = p.version + 1
                    FROM batch WHERE p.id = batch.id RETURNING p.id, p.author_id, batch.news),
                news AS (SELECT * FROM gone WHERE news),
                {_told(PostDeleted, "news", post_id="news.id", author_id="news.author_id")}
                SELECT count(*) FROM gone""",
            CountRow,
        ),
    )


_OVER: Final = {"user_id": "over.user_id", "other_id": "over.other_id", "version": "over.version"}


def _relationships(name: str, own: bool, which: str, order: str, *told: str) -> Step:
    """Rows are emptied, so that what comes late finds them over, and are deleted a day later (LATER).

    The others' counts are taken back in the same statement. All of them are locked first, in the order in which who
    follows locks them (shared/profiles/store.py).
    """
    mine, other = ("user_id", "other_id") if own else ("other_id", "user_id")
    count = "follower_count" if own else "following_count"
    batch = f"SELECT * FROM relationships WHERE {mine} = :user_id AND {which} ORDER BY {order} LIMIT :limit"
    return Step(
        name,
        db.Statement(
            f"""WITH batch AS MATERIALIZED ({batch} FOR UPDATE),
                over AS (
                  UPDATE relationships r SET follow_id = NULL, blocked_at = NULL, block_id = NULL, muted_at = NULL,
                         mute_id = NULL, version = r.version + 1
                    FROM batch WHERE r.user_id = batch.user_id AND r.other_id = batch.other_id
                  RETURNING r.user_id, r.other_id, r.version, batch.follow_id, batch.blocked_at, batch.muted_at),
                counts AS (
                  UPDATE users u SET {count} = u.{count} - 1, version = u.version + 1
                    FROM over WHERE u.id = over.{other} AND over.follow_id IS NOT NULL),
                {
                _told(
                    FollowChanged,
                    "over",
                    follower_id="over.user_id",
                    followee_id="over.other_id",
                    follow_id="NULL",
                    version="over.version",
                )
            },
                {_told(BlockChanged, "over WHERE over.blocked_at IS NOT NULL", **_OVER)},
                {", ".join([_told(MuteChanged, "over WHERE over.muted_at IS NOT NULL", **_OVER), *told])}
                SELECT count(*) FROM over""",
            CountRow,
        ),
        lock=db.Statement(
            f"""SELECT count(held) FROM (
                  SELECT pg_advisory_xact_lock(id) IS NOT NULL AS held
                    FROM (SELECT {other} AS id FROM ({batch}) b ORDER BY id OFFSET 0) ordered) locked""",
            CountRow,
        ),
    )


_DONE: Final = {
    "subject_id": "over.subject_id",
    "author_id": "over.author_id",
    "user_id": "over.user_id",
    "version": "over.version",
}


def _engagements(kind: str, told: str) -> Step:
    """What the user did with others' posts or comments: undone, with the subjects' counts; the rows go later (LATER).

    The subjects are locked first, as by who changes an engagement (shared/engagement/model.py).
    """
    counts = ["reaction", "save", "repost"] if kind == "post" else ["reaction"]
    less = ", ".join(f"{part}_count = s.{part}_count - CAST(u.{part}_id IS NOT NULL AS integer)" for part in counts)
    batch = f"""FROM engagements
                   WHERE user_id = :user_id AND kind = '{kind}' AND num_nonnulls(reaction_id, save_id, repost_id) > 0
                   ORDER BY subject_id LIMIT :limit"""
    return Step(
        f"engagements with {kind}s",
        db.Statement(
            f"""WITH batch AS MATERIALIZED (
                  SELECT * {batch} FOR UPDATE),
                undone AS (
                  UPDATE engagements e SET emoji = NULL, reaction_id = NULL, save_id = NULL, repost_id = NULL,
                         version = e.version + 1
                    FROM batch WHERE e.subject_id = batch.subject_id AND e.user_id = batch.user_id
                  RETURNING e.subject_id, e.user_id, e.version, batch.emoji, batch.reaction_id, batch.save_id,
                            batch.repost_id),
                over AS (
                  UPDATE {kind}s s SET version = s.version + 1, reactions = tally(s.reactions, u.emoji, -1), {less}
                    FROM undone u WHERE s.id = u.subject_id RETURNING u.*, s.author_id),
                {told}
                SELECT count(*) FROM undone""",
            CountRow,
        ),
        lock=db.Statement(
            f"""SELECT count(*) FROM (
                  SELECT id FROM {kind}s WHERE id IN (SELECT subject_id {batch})
                   ORDER BY id FOR NO KEY UPDATE) locked""",
            CountRow,
        ),
    )


_ENGAGED_WITH_POSTS: Final = ",\n".join(
    _told(event, f"over WHERE over.{event.part}_id IS NOT NULL", act_id=f"over.{event.part}_id", **_DONE)
    for event in (PostReacted, PostSaved, PostReposted)
)
_ENGAGED_WITH_COMMENTS: Final = _told(CommentReacted, "over", act_id="over.reaction_id", **_DONE)


# How many of an account's posts, and reposts, its followers are told live to be gone: more than anybody looks at.
_TOLD_GONE: Final = 100
_FOLLOWERS_TOLD: Final = _told(
    AuthorErased,
    "(SELECT json_agg(user_id) AS ids FROM over WHERE muted_at IS NULL) heard WHERE heard.ids IS NOT NULL",
    user_id="CAST(:user_id AS bigint)",
    username="(SELECT username FROM users WHERE id = :user_id)",
    followers="heard.ids",
    post_ids=f"""(SELECT coalesce(json_agg(id), '[]') FROM (
      SELECT id FROM posts WHERE author_id = :user_id AND deleted_at IS NULL ORDER BY id DESC LIMIT {_TOLD_GONE}) p)""",
    reposts=f"""(SELECT coalesce(json_agg(json_build_array(subject_id, repost_id)), '[]') FROM (
      SELECT subject_id, repost_id FROM engagements WHERE user_id = :user_id AND repost_id IS NOT NULL
       ORDER BY repost_id DESC LIMIT {_TOLD_GONE}) e)""",
)
_REPOSTS_TOLD: Final = _told(
    FeedChunk,
    "gone WHERE gone.repost_id IS NOT NULL",
    post_id="gone.subject_id",
    author_id="CAST(:user_id AS bigint)",
    after="0",
    deleted="true",
    repost="json_build_object('id', gone.repost_id, 'user_id', gone.user_id)",
)


def _of_posts(name: str, table: str, key: str, *told: str) -> Step:
    """What others' rows say of the user's posts, for as long as the posts have not been erased themselves."""
    columns = key.split(", ")
    taken, same = (", ".join(f"t.{c}" for c in columns), " AND ".join(f"t.{c} = batch.{c}" for c in columns))
    return Step(
        name,
        db.Statement(
            f"""WITH mine AS MATERIALIZED (
                  SELECT id FROM posts WHERE author_id = :user_id AND deleted_at IS NULL
                   UNION ALL
                  SELECT id FROM posts WHERE author_id = :user_id AND deleted_at IS NOT NULL AND media <> '[]'),
                batch AS MATERIALIZED (
                  SELECT {taken} FROM mine JOIN {table} t ON t.{columns[0]} = mine.id LIMIT :limit FOR UPDATE OF t),
                {", ".join([f"gone AS (DELETE FROM {table} t USING batch WHERE {same} RETURNING t.*)", *told])}
                SELECT count(*) FROM gone""",
            CountRow,
        ),
    )


# One at a time: what is above a comment changes with it. Under the lock under which all comments of a post are deleted
# (shared/comments/store.py, LOCK_DELETIONS), so that the statement after it sees what those before it did.
_COMMENT: Final = Step(
    "comments",
    db.Statement(
        f"""WITH RECURSIVE target AS MATERIALIZED (
              SELECT id FROM comments WHERE author_id = :user_id AND deleted_at IS NULL ORDER BY id LIMIT 1),
            deleted AS (
              UPDATE comments c SET deleted_at = greatest(:now, coalesce(c.edited_at, c.created_at) + 1), text = '',
                     attachment = NULL, mentions = '{{}}', gone = c.reply_count = 0, version = c.version + 1
                FROM target WHERE c.id = target.id RETURNING c.*),
            chain AS (
              SELECT parent_id AS id FROM deleted WHERE gone AND parent_id IS NOT NULL
               UNION ALL
              SELECT c.parent_id FROM chain JOIN comments c ON c.id = chain.id
               WHERE c.deleted_at IS NOT NULL AND c.reply_count = 1 AND c.parent_id IS NOT NULL),
            shrunk AS (
              UPDATE comments c SET reply_count = c.reply_count - 1,
                     gone = c.deleted_at IS NOT NULL AND c.reply_count = 1, version = c.version + 1
                FROM chain WHERE c.id = chain.id RETURNING c.id),
            above AS MATERIALIZED (SELECT coalesce(json_agg(id ORDER BY id DESC), '[]') AS ids FROM shrunk),
            counted AS (
              UPDATE posts p SET comment_count = p.comment_count - 1, version = p.version + 1
                FROM deleted, above WHERE p.id = deleted.post_id),
            {
            _told(
                CommentDeleted,
                "deleted, above",
                comment_id="deleted.id",
                post_id="deleted.post_id",
                author_id="deleted.author_id",
                above="above.ids",
            )
        }
            SELECT count(*) FROM deleted""",
        CountRow,
    ),
    lock=db.Statement(
        """SELECT count(held) FROM (
             SELECT pg_advisory_xact_lock(post_id) IS NOT NULL AS held
               FROM (SELECT post_id FROM comments WHERE author_id = :user_id AND deleted_at IS NULL
                      ORDER BY id LIMIT 1) next) locked""",
        CountRow,
    ),
)
_COMMENTS_BEFORE: Final = Step(
    "comments deleted before",
    db.Statement(
        """WITH batch AS MATERIALIZED (
             SELECT id FROM comments
              WHERE author_id = :user_id AND deleted_at IS NOT NULL AND (text <> '' OR attachment IS NOT NULL)
              LIMIT :limit FOR UPDATE),
           gone AS (
             UPDATE comments c SET text = '', attachment = NULL, mentions = '{}' FROM batch WHERE c.id = batch.id
             RETURNING 1)
           SELECT count(*) FROM gone""",
        CountRow,
    ),
)

# In the groups of others: taken back as if undone, and told so. Locked in the order in which acts lock them
# (shared/notifications/store.py), and counted in a statement of its own that sees what they did.
_ACTS: Final = Step(
    "acts told to others",
    db.Statement(
        f"""WITH batch AS MATERIALIZED (
              SELECT notification_id FROM notification_actors WHERE actor_id = :user_id
               ORDER BY notification_id LIMIT :limit),
            gone AS (
              DELETE FROM notification_actors a USING batch
               WHERE a.notification_id = batch.notification_id AND a.actor_id = :user_id
              RETURNING a.notification_id, a.act_id),
            changed AS (
              UPDATE notifications n SET version = n.version + 1, actor_count = n.actor_count - 1, tell_at = :now,
                     latest_id = stands.latest_id,
                     unread = n.unread AND coalesce(stands.latest_id, 0) > n.read_id
                FROM gone
               CROSS JOIN LATERAL (SELECT max(act_id) AS latest_id FROM notification_actors a
                                    WHERE a.notification_id = gone.notification_id AND a.act_id IS NOT NULL
                                      AND a.actor_id <> :user_id) stands
               WHERE n.id = gone.notification_id AND gone.act_id IS NOT NULL
              RETURNING n.id, n.user_id),
            {
            _told(
                NotificationChanged,
                "changed",
                notification_id="changed.id",
                user_id="changed.user_id",
                due_at="CAST(:now AS bigint)",
            )
        }
            SELECT count(*) FROM gone""",
        CountRow,
    ),
    lock=db.Statement(
        """SELECT count(*) FROM (
             SELECT id FROM notifications
              WHERE id IN (SELECT notification_id FROM notification_actors WHERE actor_id = :user_id
                            ORDER BY notification_id LIMIT :limit)
              ORDER BY user_id, type, subject FOR UPDATE) locked""",
        CountRow,
    ),
)

# What the user sent is nobody's any more, as if deleted for both; that of others to them stays theirs.
_SENT: Final = Step(
    "messages",
    db.Statement(
        f"""WITH batch AS MATERIALIZED (
              SELECT id FROM messages WHERE sender_id = :user_id AND content IS NOT NULL
               ORDER BY id LIMIT :limit FOR UPDATE),
            gone AS (
              UPDATE messages m SET deleted_at = greatest(:now, coalesce(m.edited_at, 0) + 1), content = NULL,
                     sender_emoji = NULL, recipient_emoji = NULL, version = m.version + 1
                FROM batch WHERE m.id = batch.id RETURNING m.recipient_id),
            pairs AS (SELECT DISTINCT recipient_id FROM gone),
            {_told(ChatChanged, "pairs", user_id="CAST(:user_id AS bigint)", other_id="pairs.recipient_id")}
            SELECT count(*) FROM gone""",
        CountRow,
    ),
)
_REACTED: Final = Step(
    "reactions to messages",
    db.Statement(
        f"""WITH batch AS MATERIALIZED (
              SELECT id FROM messages WHERE recipient_id = :user_id AND recipient_emoji IS NOT NULL
               ORDER BY id LIMIT :limit FOR UPDATE),
            gone AS (
              UPDATE messages m SET recipient_emoji = NULL, version = m.version + 1
                FROM batch WHERE m.id = batch.id RETURNING m.sender_id),
            pairs AS (SELECT DISTINCT sender_id FROM gone),
            {_told(ChatChanged, "pairs", user_id="CAST(:user_id AS bigint)", other_id="pairs.sender_id")}
            SELECT count(*) FROM gone""",
        CountRow,
    ),
)
# What moderators decide on stays; what was said of it in words goes with who said it.
_REPORTS: Final = Step(
    "reports filed",
    db.Statement(
        """WITH batch AS MATERIALIZED (
             SELECT id FROM reports WHERE reporter_id = :user_id AND detail IS NOT NULL LIMIT :limit FOR UPDATE),
           gone AS (UPDATE reports r SET detail = NULL FROM batch WHERE r.id = batch.id RETURNING 1)
           SELECT count(*) FROM gone""",
        CountRow,
    ),
)

# In the order in which it is done. Followers come before posts and reposts: they are told live which of them are gone.
# So does who reposted a post come before the post, since their followers are told.
STEPS: Final = (
    _relationships("followers", False, "follow_id IS NOT NULL", "follow_id", _FOLLOWERS_TOLD),
    _COMMENT,
    _COMMENTS_BEFORE,
    _engagements("post", _ENGAGED_WITH_POSTS),
    _engagements("comment", _ENGAGED_WITH_COMMENTS),
    _of_posts("engagements of others", "engagements", "subject_id, user_id", _REPOSTS_TOLD),
    _of_posts("mentions in posts", "mentions", "post_id, user_id"),
    _deleted("mentions", "mentions", "post_id, user_id", "user_id = :user_id"),
    _posts("posts", "deleted_at IS NULL"),
    _posts("posts deleted before", "deleted_at IS NOT NULL AND media <> '[]'"),
    _USER,
    _relationships("following", True, "follow_id IS NOT NULL", "follow_id"),
    _relationships("blocked or muted", True, "(blocked_at IS NOT NULL OR muted_at IS NOT NULL)", "other_id"),
    _relationships("blocked by", False, "blocked_at IS NOT NULL", "user_id"),
    _relationships("muted by", False, "muted_at IS NOT NULL", "user_id"),
    _ACTS,
    _REPORTS,
    Step(
        "actors told of",
        db.Statement(
            """WITH batch AS MATERIALIZED (
                 SELECT a.notification_id, a.actor_id FROM notifications n
                   JOIN notification_actors a ON a.notification_id = n.id
                  WHERE n.user_id = :user_id LIMIT :limit FOR UPDATE OF a),
               gone AS (
                 DELETE FROM notification_actors a USING batch
                  WHERE a.notification_id = batch.notification_id AND a.actor_id = batch.actor_id RETURNING 1)
               SELECT count(*) FROM gone""",
            CountRow,
        ),
    ),
    _deleted("notifications", "notifications", "id", "user_id = :user_id"),
    _SENT,
    _REACTED,
    _deleted("chats", "chat_members", "user_id, other_id", "user_id = :user_id"),
    _deleted("merged author", "merged_authors", "user_id", "user_id = :user_id"),
    _deleted("notification settings", "notification_settings", "user_id", "user_id = :user_id"),
    _deleted("sessions", "sessions", "id", "user_id = :user_id"),
    _deleted("resets and signups", "signups", "id", "email = :email AND created_at <= :begun"),
    _deleted("failed logins", "login_failures", "subject", "subject = ANY(CAST(:subjects AS text[]))"),
    _deleted("idempotency keys", "idempotency_keys", "scope, key", "scope = :scope"),
)
# A day later, once more and then for good.
LATER: Final = (
    *STEPS,
    _deleted("engagements", "engagements", "subject_id, user_id", "user_id = :user_id"),
    _deleted("relationships", "relationships", "user_id, other_id", "user_id = :user_id"),
    _deleted(
        "relationships",
        "relationships",
        "user_id, other_id",
        "other_id = :user_id AND follow_id IS NULL AND blocked_at IS NULL AND muted_at IS NULL",
    ),
)
# Tables of a user's that no step above erases, and why not.
ELSEWHERE: Final = {
    "chats": "of two: who wrote to whom is the other's to know as well, by id",
    "moderation_log": "append-only: it outlasts accounts, and names them by id",
    "uploads": "with their objects in storage (erasure.py)",
    "exports": "with their archives in storage (erasure.py)",
    "erasures": "the receipt",
}

BEGIN = db.Statement("""INSERT INTO erasures (id, user_id, email, begun_at) VALUES (:id, :user_id, :email, :now)""")
# The address is free from now on. What stands in its place has no "@", so that nobody can sign in or up with it.
HIDE = db.Statement(
    """UPDATE users SET state = 'deleted', email = CAST(id AS text), version = version + 1
        WHERE id = :user_id AND password_hash = :password_hash AND state = 'active' RETURNING 1""",
    CountRow,
)
UNDER_WAY = db.Statement(
    """SELECT e.id, e.user_id, e.turn, e.looks, e.begun_at, u.username, e.email
         FROM erasures e JOIN users u ON u.id = e.user_id
        WHERE e.id = :id AND e.turn = :turn AND e.under_way""",
    ErasureRow,
)
# Of several runs one at a time goes on, and each batch is counted with its erasing.
LOCK = db.Statement("SELECT 1 FROM erasures WHERE id = :id AND under_way FOR UPDATE", CountRow)
COUNT = db.Statement(
    """UPDATE erasures SET counts = counts || jsonb_build_object(
         CAST(:name AS text), coalesce(CAST(counts ->> CAST(:name AS text) AS bigint), 0) + :more)
        WHERE id = :id"""
)
TURN = db.Statement("UPDATE erasures SET turn = turn + 1 WHERE id = :id AND turn = :turn AND under_way")
END = db.Statement(
    """UPDATE erasures SET under_way = false, ended_at = coalesce(ended_at, :now)
        WHERE id = :id AND turn = :turn AND under_way"""
)
LOOK_AGAIN = db.Statement(
    f"""WITH due AS (
          UPDATE erasures SET under_way = true, looks = 2, turn = turn + 1
           WHERE id IN (SELECT id FROM erasures WHERE looks = 1 AND NOT under_way AND ended_at < :before
                         ORDER BY ended_at LIMIT :limit FOR UPDATE SKIP LOCKED)
          RETURNING id, turn),
        {_told(ErasureDue, "due", erasure_id="due.id", turn="due.turn")}
        SELECT count(*) FROM due""",
    CountRow,
)
FORMER_ADDRESS = db.Statement(
    "SELECT email FROM erasures WHERE id = :id AND ended_at IS NOT NULL AND email IS NOT NULL", ReceiptRow
)
FORGET_ADDRESS = db.Statement("UPDATE erasures SET email = NULL WHERE id = :id")

UPLOADS = db.Statement(
    """SELECT object FROM uploads
        WHERE user_id = :user_id AND NOT (attached_to IS NULL AND created_at > :young) LIMIT :limit""",
    ObjectRow,
)
# An upload whose URL may still be good stays as one that nobody attached: it is swept with those, within a day.
LEAVE_TO_SWEEP = db.Statement(
    """UPDATE uploads SET attached_to = NULL
        WHERE object = ANY(CAST(:objects AS text[])) AND created_at > :young"""
)
DELETE_UPLOADS = db.Statement(
    "DELETE FROM uploads WHERE object = ANY(CAST(:objects AS text[])) AND created_at <= :young"
)
EXPORTS = db.Statement("SELECT object FROM exports WHERE user_id = :user_id LIMIT :limit", ObjectRow)
DELETE_EXPORTS = db.Statement("DELETE FROM exports WHERE object = ANY(CAST(:objects AS text[]))")
