"""Making, editing and deleting comments; reacting to them."""

from typing import Any

import msgspec

from shared.comments import projection, reads, store
from shared.comments.model import BLANK, CommentEdit, NewComment, trimmed
from shared.engagement import reads as engagement
from shared.engagement.model import NOTHING, Engagement, NewReaction, emoji_of
from shared.kernel import cache, clock, db, events, ids, log
from shared.kernel.endpoint import Caller, CommentId, Encoded, PostId
from shared.kernel.problems import Conflict, Forbidden, Invalid, NotFound, Problem
from shared.media import actions as media
from shared.posts import reads as posts
from shared.posts.model import NewMedia, mentions_in
from shared.profiles import mentions
from shared.profiles import reads as profiles


def comment(caller: Caller, post_id: PostId, new: NewComment) -> Encoded:
    """Comment on a post. Raises NotFound, Invalid with a fault for each object that can't be attached."""
    return _make(caller, new, store.MAKE, "post_not_found", post_id=post_id)


def reply(caller: Caller, comment_id: CommentId, new: NewComment) -> Encoded:
    """Reply to a comment. Raises as `comment` does; Conflict("comment_deleted") for a tombstone."""
    return _make(caller, new, store.REPLY, "comment_not_found", parent_id=comment_id)


def _make(
    caller: Caller, new: NewComment, statement: db.Statement[store.MadeRow], absent: str, **subject: int
) -> Encoded:
    params = _common(caller, trimmed(new.text)) | {"id": ids.new_id(), "attachment": None, **subject}
    if new.attachment is None:
        with db.connection() as conn:
            row = statement.one(conn, **params)
    else:
        row = _make_with(caller, new.attachment, statement, absent, params)
    made = row.comment
    if made is None or row.post is None or row.author is None:
        raise _unmade(caller, row, absent)
    _project([made], row.parent, row.post)
    return _shown(made, row.author, NOTHING)


def _make_with(
    caller: Caller, attachment: NewMedia, statement: db.Statement[store.MadeRow], absent: str, params: dict[str, Any]
) -> store.MadeRow:
    wanted = [
        media.Wanted("attachment.actual", attachment.actual, "comment", "actual", ("photo", "video")),
        media.Wanted("attachment.placeholder", attachment.placeholder, "comment", "placeholder", ("photo",)),
    ]
    content_types = media.check(caller, wanted)
    kept = msgspec.structs.asdict(attachment) | {"content_type": content_types[attachment.actual]}
    with db.transaction() as conn:
        media.attach(conn, caller, _owner(params["id"]), wanted)
        row = statement.one(conn, **params | {"attachment": msgspec.json.encode(kept).decode()})
        if row.comment is None:
            raise _unmade(caller, row, absent)
    return row


def _unmade(caller: Caller, row: store.MadeRow, absent: str) -> Problem:
    if caller.user_id not in profiles.load_cards_sync([caller.user_id]):
        return Forbidden("account_gone")
    if row.parent_deleted:
        return _deleted()
    return NotFound(absent)


def edit(caller: Caller, comment_id: CommentId, change: CommentEdit) -> Encoded:
    """Edit a comment of the caller's own. Raises NotFound, Conflict, Forbidden("not_author"), Invalid."""
    text = trimmed(change.text)
    with db.connection() as conn:
        row = store.EDIT.maybe(conn, id=comment_id, **_common(caller, text))
        if row is None:
            seen = _seen(conn, caller, comment_id)
            if seen.author_id == caller.user_id:
                raise Invalid([BLANK])
            raise Forbidden("not_author", "Only its author can edit a comment.")
    events.after_commit(projection.card(row.comment))
    return _shown(row.comment, row.author, Engagement(row.reaction))


def delete(caller: Caller, comment_id: CommentId) -> None:
    """Delete a comment of the caller's own, or on a post of theirs.

    Raises NotFound, Conflict for a tombstone, Forbidden("not_author").
    """
    with db.transaction() as conn:
        commands = _delete(conn, comment_id, store.DELETE, user_id=caller.user_id)
        if not commands:
            _seen(conn, caller, comment_id)
            raise Forbidden("not_author", "Only its author, and whose post it is, can delete a comment.")
    events.after_commit(*commands)


def remove(conn: db.Connection, comment_id: int) -> list[cache.Command]:
    """Delete anybody's comment in the transaction of `conn`; what Redis is to hear after it, nothing if it is gone."""
    return _delete(conn, comment_id, store.REMOVE)


def _delete(
    conn: db.Connection, comment_id: int, statement: db.Statement[store.DeletedRow], **who: int
) -> list[cache.Command]:
    store.LOCK_DELETIONS.run(conn, id=comment_id)
    row = statement.maybe(conn, id=comment_id, now=clock.now_ms(), trace=log.trace_id.get() or None, **who)
    if row is None:
        return []
    if row.comment.attachment is not None:
        media.release(conn, _owner(comment_id))
    shown = [*projection.rows([row.comment, *row.above]), *projection.to_subscribers([row.comment])]
    return [*shown, posts.projected(row.post)]


def react(caller: Caller, comment_id: CommentId, new: NewReaction) -> Encoded:
    """React to a comment, instead of an earlier reaction. Raises NotFound, Conflict for a tombstone."""
    return _reacted(caller, comment_id, store.REACT, emoji_of(new.emoji), act_id=ids.new_id())


def unreact(caller: Caller, comment_id: CommentId) -> Encoded:
    """Take a reaction back. Raises as `react` does, NotFound also where it is taken back: the comment is hidden."""
    return _reacted(caller, comment_id, store.UNREACT, None)


def _reacted(
    caller: Caller, comment_id: int, statement: db.Statement[store.EngagedRow], emoji: str | None, **more: Any
) -> Encoded:
    params = {"subject_id": comment_id, "user_id": caller.user_id, "now": clock.now_ms(), **more}
    params["trace"] = log.trace_id.get() or None
    if emoji is not None:
        params["emoji"] = emoji
    with db.connection() as conn:
        row = statement.maybe(conn, **params)
        if row is not None and not row.changed and row.emoji != emoji:
            # Another request changed it while this one waited: what there is now, is asked anew.
            row = statement.maybe(conn, **params)
        if row is None:
            _seen(conn, caller, comment_id)
            raise NotFound("comment_not_found")
    done = Engagement(row.emoji)
    events.after_commit(
        projection.card(row),
        *engagement.changed("reaction", caller.user_id, row.id, done, row.engagement_version),
    )
    if not row.visible:
        raise NotFound("comment_not_found")  # what was undone stays so
    author = profiles.card(row.author_id, row.username, row.name, row.picture)
    return Encoded(mentions.without(reads.spliced(projection.body(row), author, done), {*row.mentions} - {*row.seen}))


def _common(caller: Caller, text: str) -> dict[str, Any]:
    return {
        "user_id": caller.user_id,
        "text": text,
        "mentions": mentions_in(text),
        "now": clock.now_ms(),
        "trace": log.trace_id.get() or None,
    }


def _seen(conn: db.Connection, caller: Caller, comment_id: int) -> store.CommentRow:
    """The comment, if the caller may see it. Raises NotFound, Conflict for a tombstone."""
    seen = store.SEEN.maybe(conn, id=comment_id, user_id=caller.user_id)
    if seen is None or not seen.visible:
        raise NotFound("comment_not_found")
    if seen.comment.deleted_at is not None:
        raise _deleted()
    return seen.comment


def _deleted() -> Problem:
    return Conflict("comment_deleted", "This comment was deleted: all that can be done with it is to read it.")


def _project(placed: list[store.CommentRow], parent: store.CommentRow | None, post: posts.PostRow) -> None:
    commands: list[cache.Command] = [*projection.rows(placed), posts.projected(post)]
    if parent is not None:
        commands.append(projection.card(parent))
    events.after_commit(*commands)


def _shown(row: store.CommentRow, author: profiles.UserRow, done: Engagement) -> Encoded:
    card = profiles.card_of(author)
    if card is None:
        raise Forbidden("account_gone")
    return Encoded(reads.spliced(projection.body(row), card, done))


def _owner(comment_id: int) -> str:
    return f"comment:{ids.encode(comment_id)}"
