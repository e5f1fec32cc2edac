"""The SQL of exports: what is held on a user, a file of the archive each.

Whoever adds a table or a column that holds anything of a user's adds it here, and its step to `erasure_store`; a test
fails until then.
"""

from typing import Final

import msgspec

from shared.kernel import db, ids
from shared.visibility.model import BLOCKED_BY_SQL, SEES_SQL

# How many items are read at a time.
PAGE: Final = 500


class ItemRow(msgspec.Struct, frozen=True):
    """One item of a file, in JSON, and the private objects that it names."""

    json: str
    private: list[str]


class ExportRow(msgspec.Struct, frozen=True):
    """An archive, made or to be made, and whose it is."""

    id: int
    object: str
    made_at: int | None
    expires_at: int
    username: str
    email: str


class WhenRow(msgspec.Struct, frozen=True):
    """When something was asked for."""

    at: int


class ObjectRow(msgspec.Struct, frozen=True):
    """The name of an archive."""

    object: str


class Section(msgspec.Struct, frozen=True):
    """A file of the archive: a list of the items of a cursor, which its statement opens, and `NEXT` reads."""

    file: str
    items: "db.Statement[None]"


def _section(file: str, position: str, source: str, *, private: str = "CAST('{}' AS text[])", **fields: str) -> Section:
    pairs = ", ".join(f"'{name}', {value}" for name, value in fields.items())
    return Section(
        file,
        db.Statement(
            f"""DECLARE items NO SCROLL CURSOR FOR SELECT CAST(json_build_object({pairs}) AS text), {private}
                  FROM {source} ORDER BY {position}"""
        ),
    )


def _url(object: str) -> str:
    return f"CAST(:media AS text) || '/' || ({object})"


_MEDIA: Final = f"""(SELECT json_agg(json_build_object(
    'url', {_url("m ->> 'actual'")}, 'placeholder_url', {_url("m ->> 'placeholder'")},
    'content_type', m -> 'content_type', 'width', m -> 'width', 'height', m -> 'height', 'alt_text', m -> 'alt_text'))
  FROM jsonb_array_elements(p.media) AS m WHERE p.deleted_at IS NULL)"""
# Nobody is named who is hidden from the user, or gone: the archive tells no more of others than the API.
_SEEN: Final = SEES_SQL.format(other="o.id")
_ACTS: Final = f"""notification_actors a JOIN users o ON o.id = a.actor_id
    WHERE a.notification_id = n.id AND a.act_id IS NOT NULL AND {_SEEN}"""
# The latest: who else reacted, say, is others' to tell, and there may be a million of them.
_ACTORS: Final = f"""(SELECT json_agg(json_build_object('username', act.username, 'at', act.at)) FROM (
    SELECT o.username, {ids.made_at_sql("a.act_id")} AS at FROM {_ACTS} ORDER BY a.act_id DESC LIMIT 100) act)"""
_PICTURE: Final = f"(SELECT json_object_agg(size, {_url('name')}) FROM jsonb_each_text(u.picture) AS e (size, name))"

# A statement may use `:user_id`, `:username`, and `:media`, the address of public media.
SECTIONS: Final = (
    _section(
        "profile.json",
        "u.id",
        "users u WHERE u.id = :user_id",
        username="u.username",
        email="u.email",
        name="u.name",
        bio="u.bio",
        birthday="u.birthday",
        links="u.links",
        picture=_PICTURE,
        created_at="u.created_at",
        shows_presence="u.shows_presence",
        posts="u.post_count",
        followers="u.follower_count",
        following="u.following_count",
        moderator="u.is_moderator",
    ),
    _section(
        "sessions.json",
        "s.id",
        "sessions s WHERE s.user_id = :user_id",
        id=ids.encoded_sql("s.id"),
        user_agent="s.user_agent",
        created_at="s.created_at",
        last_used_at="s.last_used_at",
        refresh_expires_at="s.refresh_expires_at",
        ended_at="s.ended_at",
    ),
    # Deleted ones too, as long as anything of them is held; their media are gone.
    _section(
        "posts.json",
        "p.id",
        "posts p WHERE p.author_id = :user_id",
        id=ids.encoded_sql("p.id"),
        type="p.type",
        media=_MEDIA,
        description="p.description",
        mentions="p.mentions",
        hashtags="p.hashtags",
        created_at="p.created_at",
        edited_at="p.edited_at",
        deleted_at="p.deleted_at",
        counts="""json_build_object('reactions', p.reaction_count, 'comments', p.comment_count,
                                    'reposts', p.repost_count, 'saves', p.save_count)""",
        reactions="p.reactions",
    ),
    _section(
        "comments.json",
        "c.id",
        "comments c WHERE c.author_id = :user_id",
        id=ids.encoded_sql("c.id"),
        post_id=ids.encoded_sql("c.post_id"),
        parent_id=f"CASE WHEN c.parent_id IS NOT NULL THEN {ids.encoded_sql('c.parent_id')} END",
        text="c.text",
        attachment_url=f"""CASE WHEN c.deleted_at IS NULL THEN {_url("c.attachment ->> 'actual'")} END""",
        mentions="c.mentions",
        created_at="c.created_at",
        edited_at="c.edited_at",
        deleted_at="c.deleted_at",
        counts="json_build_object('reactions', c.reaction_count, 'replies', c.reply_count)",
        reactions="c.reactions",
    ),
    _section(
        "engagements.json",
        "e.subject_id",
        """engagements e
           WHERE e.user_id = :user_id AND num_nonnulls(e.reaction_id, e.save_id, e.repost_id) > 0""",
        subject_type="e.kind",
        subject_id=ids.encoded_sql("e.subject_id"),
        reaction="e.emoji",
        reacted_at=ids.made_at_sql("e.reaction_id"),
        saved_at=ids.made_at_sql("e.save_id"),
        reposted_at=ids.made_at_sql("e.repost_id"),
    ),
    # What others wrote is theirs to tell.
    _section(
        "messages.json",
        "m.id",
        """messages m JOIN users o ON o.id = m.recipient_id
           WHERE m.sender_id = :user_id""",
        id=ids.encoded_sql("m.id"),
        client_id="m.client_id",
        to=f"CASE WHEN {_SEEN} THEN o.username END",
        content="m.content",
        # As long as it is held: what is deleted for both has no content.
        private="""ARRAY(SELECT value FROM jsonb_each_text(m.content) AS c (key, value)
                          WHERE key IN ('object', 'actual', 'placeholder'))""",
        reply_to=f"CASE WHEN m.reply_to_id IS NOT NULL THEN {ids.encoded_sql('m.reply_to_id')} END",
        reaction="m.sender_emoji",
        received_reaction="m.recipient_emoji",
        hidden="m.hidden_by_sender",
        sent_at=ids.made_at_sql("m.id"),
        delivered_at="m.delivered_at",
        read_at="m.read_at",
        edited_at="m.edited_at",
        deleted_at="m.deleted_at",
    ),
    _section(
        "message_reactions.json",
        "m.id",
        f"""messages m JOIN users o ON o.id = m.sender_id
           WHERE m.recipient_id = :user_id AND m.recipient_emoji IS NOT NULL AND {_SEEN}""",
        message_id=ids.encoded_sql("m.id"),
        sender="o.username",
        reaction="m.recipient_emoji",
    ),
    _section(
        "chats.json",
        "c.other_id",
        f"""chat_members c JOIN users o ON o.id = c.other_id
           WHERE c.user_id = :user_id AND {_SEEN}""",
        username="o.username",
        box="c.box",
        updated_at=ids.made_at_sql("c.position"),
        delivered_up_to=ids.encoded_sql("nullif(c.delivered_up_to, 0)"),
        read_up_to=ids.encoded_sql("nullif(c.read_up_to, 0)"),
        cleared_up_to=ids.encoded_sql("nullif(c.cleared_up_to, 0)"),
    ),
    _section(
        "mentions.json",
        "m.mention_id",
        "mentions m WHERE m.user_id = :user_id AND m.mention_id IS NOT NULL",
        post_id=ids.encoded_sql("m.post_id"),
        at=ids.made_at_sql("m.mention_id"),
    ),
    # By the names that comments keep: no username is ever changed, or given to another.
    _section(
        "comment_mentions.json",
        "c.id",
        "comments c WHERE c.mentions @> ARRAY[CAST(:username AS text)] AND c.mentions <> '{}'",
        comment_id=ids.encoded_sql("c.id"),
        at="c.created_at",
    ),
    _section(
        "reports.json",
        "r.id",
        "reports r WHERE r.reporter_id = :user_id",
        id=ids.encoded_sql("r.id"),
        subject_type="r.subject_type",
        subject_id=ids.encoded_sql("r.subject_id"),
        reason="r.reason",
        detail="r.detail",
        created_at="r.created_at",
        state="CASE WHEN r.action IS NULL THEN 'open' ELSE 'resolved' END",
        resolved_at="r.resolved_at",
    ),
    _section(
        "settings.json",
        "s.user_id",
        "notification_settings s WHERE s.user_id = :user_id",
        unwanted_notifications="s.unwanted",
    ),
    # Whom they follow, block or mute, but for who has blocked them: their lists leave those out as well. Who follows
    # them is others' to tell, and shown as usernames alone.
    _section(
        "relationships.json",
        "r.other_id",
        f"""relationships r JOIN users o ON o.id = r.other_id
           WHERE r.user_id = :user_id AND o.state <> 'deleted' AND NOT {BLOCKED_BY_SQL.format(other="o.id")}
             AND (r.follow_id IS NOT NULL OR r.blocked_at IS NOT NULL OR r.muted_at IS NOT NULL)""",
        username="o.username",
        followed_at=ids.made_at_sql("r.follow_id"),
        blocked_at="r.blocked_at",
        muted_at="r.muted_at",
    ),
    _section(
        "followers.json",
        "r.follow_id",
        """relationships r JOIN users o ON o.id = r.user_id
           WHERE r.other_id = :user_id AND r.follow_id IS NOT NULL AND o.state = 'active'""",
        username="o.username",
        followed_at=ids.made_at_sql("r.follow_id"),
    ),
    _section(
        "notifications.json",
        "n.id",
        f"notifications n WHERE n.user_id = :user_id AND n.latest_id IS NOT NULL AND EXISTS (SELECT FROM {_ACTS})",
        id=ids.encoded_sql("n.id"),
        type="n.type",
        subject="n.subject",
        at=ids.made_at_sql(f"(SELECT a.act_id FROM {_ACTS} ORDER BY a.act_id DESC LIMIT 1)"),
        actors=_ACTORS,
        unread="n.unread",
    ),
    _section(
        "uploads.json",
        "u.object",
        "uploads u WHERE u.user_id = :user_id",
        url=f"CASE WHEN u.purpose <> 'message' THEN {_url('u.object')} END",
        purpose="u.purpose",
        variant="u.variant",
        content_type="u.content_type",
        size="u.size",
        created_at="u.created_at",
        attached_to="u.attached_to",
    ),
)

NEXT = db.Statement(f"FETCH {PAGE} FROM items", ItemRow)

# The account, locked: of two requests at once the second sees the first.
LOCK = db.Statement("SELECT created_at FROM users WHERE id = :user_id AND state = 'active' FOR NO KEY UPDATE", WhenRow)
NEWEST = db.Statement(
    "SELECT requested_at FROM exports WHERE user_id = :user_id ORDER BY requested_at DESC LIMIT 1", WhenRow
)
INSERT = db.Statement(
    """INSERT INTO exports (id, user_id, object, requested_at, expires_at)
       VALUES (:id, :user_id, :object, :now, :expires)"""
)
FIND = db.Statement(
    """SELECT e.id, e.object, e.made_at, e.expires_at, u.username, u.email
         FROM exports e JOIN users u ON u.id = e.user_id WHERE e.id = :id AND u.state <> 'deleted'""",
    ExportRow,
)
# Touches the row only for the first.
MADE = db.Statement("UPDATE exports SET made_at = :now, expires_at = :expires WHERE id = :id AND made_at IS NULL")
TAKE_EXPIRED = db.Statement(
    """DELETE FROM exports WHERE id IN (
         SELECT id FROM exports WHERE expires_at < :before ORDER BY expires_at LIMIT :limit FOR UPDATE SKIP LOCKED)
       RETURNING object""",
    ObjectRow,
)
