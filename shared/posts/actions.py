"""Making, editing and deleting posts; reacting to them, saving and reposting them."""

from collections.abc import Callable
from typing import Any

import msgspec

from shared.engagement import reads as engagement
from shared.engagement.model import NOTHING, Engagement, NewReaction, Part, emoji_of
from shared.feed.model import Entry, FeedRepost, taken_back, told
from shared.kernel import cache, clock, db, events, ids, log
from shared.kernel.endpoint import Caller, Encoded, PostId
from shared.kernel.problems import Forbidden, Invalid, NotFound
from shared.media import actions as media
from shared.media.model import Kind
from shared.posts import projection, reads, store
from shared.posts.model import NewPost, PostCreated, PostDeleted, PostEdit, PostEdited, hashtags_in, mentions_in
from shared.profiles import mentions
from shared.profiles import reads as profiles


def create(caller: Caller, new: NewPost) -> Encoded:
    """Make a post of uploaded media. Raises Invalid with a fault for each object that can't be attached."""
    wanted = _wanted(new)
    content_types = media.check(caller, wanted)
    post_id = ids.new_id()
    names = mentions_in(new.description)
    mentioned = profiles.reachable(caller.user_id, names)
    with db.transaction() as conn:
        media.attach(conn, caller, _owner(post_id), wanted)
        row = store.INSERT.one(
            conn,
            id=post_id,
            author_id=caller.user_id,
            type=new.type,
            media=msgspec.json.encode(
                [msgspec.structs.asdict(m) | {"content_type": content_types[m.actual]} for m in new.media]
            ).decode(),
            description=new.description,
            mentions=[name for name in names if name in mentioned],
            hashtags=hashtags_in(new.description),
            now=clock.now_ms(),
        )
        if mentioned:
            store.SET_MENTIONS.run(conn, post_id=post_id, user_ids=[*mentioned.values()], mention_id=post_id)
        store.COUNT_POST.run(conn, user_id=caller.user_id, step=1)
        events.emit(conn, PostCreated(post_id, caller.user_id))
    commands, cards = profiles.fresh([caller.user_id])
    events.after_commit(*projection.rows([row]), *commands)
    if caller.user_id not in cards:
        raise Forbidden("account_gone")
    return Encoded(reads.spliced(projection.body(row), cards[caller.user_id], NOTHING))


def edit(caller: Caller, post_id: PostId, changes: PostEdit) -> Encoded:
    """Change the description or alt texts of a post of the caller's own; mentions and hashtags are taken anew.

    Raises NotFound, Forbidden("not_author"), Invalid unless there is an alt text for each medium.
    """
    names = mentions_in(changes.description) if changes.description is not msgspec.UNSET else []
    mentioned = profiles.reachable(caller.user_id, names)
    with db.transaction() as conn:
        row = store.LOCK.maybe(conn, id=post_id)
        if row is not None and row.author_id == caller.user_id:
            row = _edited(conn, row, changes, [name for name in names if name in mentioned], mentioned)
    if row is None or row.author_id != caller.user_id:
        raise _refusal(caller, post_id)
    done = engagement.of_viewers(post_id, [caller.user_id]).get(caller.user_id, NOTHING)
    mentioned_now = projection.mentioned(projection.load_mentions(post_id))
    events.after_commit(projection.card(row), *projection.outdated([row]), *mentioned_now)
    card = profiles.load_cards_sync([caller.user_id]).get(caller.user_id)
    if card is None:
        raise Forbidden("account_gone")
    hidden = set(row.mentions) - profiles.reachable(caller.user_id, row.mentions).keys()
    return Encoded(mentions.without(reads.spliced(projection.body(row), card, done), hidden))


def _edited(
    conn: db.Connection, row: store.PostRow, changes: PostEdit, names: list[str], mentioned: dict[str, int]
) -> store.PostRow:
    description, media, mentions, hashtags = row.description, row.media, row.mentions, row.hashtags
    if changes.description is not msgspec.UNSET:
        description, mentions, hashtags = changes.description, names, hashtags_in(changes.description)
    if changes.alt_texts is not msgspec.UNSET:
        if len(changes.alt_texts) != len(media):
            raise Invalid.field("alt_texts", "wrong_length", f"Expected {len(media)}, one a medium.")
        media = [medium | {"alt_text": text} for medium, text in zip(media, changes.alt_texts, strict=True)]
    if (description, media, mentions) == (row.description, row.media, row.mentions):
        return row
    if changes.description is not msgspec.UNSET:
        store.SET_MENTIONS.run(
            conn, post_id=row.id, user_ids=[mentioned[name] for name in names], mention_id=ids.new_id()
        )
    events.emit(conn, PostEdited(row.id, row.author_id))
    return store.EDIT.one(
        conn,
        id=row.id,
        description=description,
        media=msgspec.json.encode(media).decode(),
        mentions=mentions,
        hashtags=hashtags,
        now=clock.now_ms(),
    )


def delete(caller: Caller, post_id: PostId) -> None:
    """Delete a post of the caller's own. Raises NotFound, Forbidden("not_author")."""
    with db.transaction() as conn:
        commands = remove(conn, post_id, caller.user_id)
    if not commands:
        raise _refusal(caller, post_id)
    fresh, _ = profiles.fresh([caller.user_id])
    events.after_commit(*commands, *fresh)


def remove(conn: db.Connection, post_id: int, author_id: int) -> list[cache.Command]:
    """Delete a post in the transaction of `conn`; what Redis is to hear after it, nothing if the post is gone."""
    row = store.DELETE.maybe(conn, id=post_id, author_id=author_id, now=clock.now_ms())
    if row is None:
        return []
    media.release(conn, _owner(post_id))
    store.SET_MENTIONS.run(conn, post_id=post_id, user_ids=[], mention_id=None)
    store.COUNT_POST.run(conn, user_id=author_id, step=-1)
    events.emit(conn, PostDeleted(post_id, author_id))
    return [*projection.rows([row]), *projection.to_subscribers([row])]


def react(caller: Caller, post_id: PostId, new: NewReaction) -> Encoded:
    """React to a post, instead of an earlier reaction. Raises NotFound."""
    emoji = emoji_of(new.emoji)
    more = {"emoji": emoji, "act_id": ids.new_id()}
    return _answer(caller, "reaction", _change(caller, post_id, store.REACT, lambda row: row.emoji == emoji, **more))


def unreact(caller: Caller, post_id: PostId) -> Encoded:
    """Take a reaction back. Raises NotFound."""
    return _answer(caller, "reaction", _change(caller, post_id, store.UNREACT, lambda row: row.emoji is None))


def save(caller: Caller, post_id: PostId) -> Encoded:
    """Save a post. Raises NotFound."""
    return _answer(caller, "save", _change(caller, post_id, store.SAVE, lambda row: row.saved, act_id=ids.new_id()))


def unsave(caller: Caller, post_id: PostId) -> Encoded:
    """Save a post no more. Raises NotFound."""
    return _answer(caller, "save", _change(caller, post_id, store.UNSAVE, lambda row: not row.saved))


def repost(caller: Caller, post_id: PostId) -> Encoded:
    """Repost a post. Raises NotFound."""
    row = _change(caller, post_id, store.REPOST, lambda row: row.reposted, act_id=ids.new_id())
    # Into one's own feed at once: one reads one's own writes.
    return _answer(caller, "repost", row, *(told(_repost_of(caller, row)) if row.changed else []))


def undo_repost(caller: Caller, post_id: PostId) -> Encoded:
    """Take a repost back. Raises NotFound."""
    row = _change(caller, post_id, store.UNDO_REPOST, lambda row: not row.reposted)
    return _answer(caller, "repost", row, *(taken_back(_repost_of(caller, row)) if row.changed else []))


def _change(
    caller: Caller,
    post_id: PostId,
    statement: db.Statement[store.EngagedRow],
    is_as_wished: Callable[[store.EngagedRow], bool],
    **more: Any,
) -> store.EngagedRow:
    params = {"subject_id": post_id, "user_id": caller.user_id, "now": clock.now_ms(), **more}
    params["trace"] = log.trace_id.get() or None
    with db.connection() as conn:
        row = statement.maybe(conn, **params)
        if row is not None and not row.changed and not is_as_wished(row):
            # Another request changed it while this one waited: what there is now, is asked anew.
            row = statement.maybe(conn, **params)
    if row is None or row.deleted_at is not None:
        raise NotFound("post_not_found")
    return row


def _answer(caller: Caller, part: Part, row: store.EngagedRow, *commands: cache.Command) -> Encoded:
    done = Engagement(row.emoji, row.saved, row.reposted)
    events.after_commit(
        *projection.engaged(row, part, caller.user_id),
        *engagement.changed(part, caller.user_id, row.id, done, row.engagement_version),
        *commands,
    )
    if not row.visible:
        raise NotFound("post_not_found")  # what was undone stays so
    author = profiles.card(row.author_id, row.username, row.name, row.picture)
    return Encoded(mentions.without(reads.spliced(projection.body(row), author, done), {*row.mentions} - {*row.seen}))


def _repost_of(caller: Caller, row: store.EngagedRow) -> Entry:
    return Entry(row.id, row.author_id, FeedRepost(row.act_id, caller.user_id))


def _refusal(caller: Caller, post_id: int) -> Exception:
    if reads.author_seen_by(caller.user_id, post_id) is None:
        return NotFound("post_not_found")
    return Forbidden("not_author", "This is its author's alone to do.")


def _owner(post_id: int) -> str:
    return f"post:{ids.encode(post_id)}"


def _wanted(new: NewPost) -> list[media.Wanted]:
    kinds: tuple[Kind, ...] = ("photo",) if new.type.startswith("photo") else ("video",)
    return [
        wanted
        for index, medium in enumerate(new.media)
        for wanted in (
            media.Wanted(f"media[{index}].actual", medium.actual, "post", "actual", kinds),
            media.Wanted(f"media[{index}].placeholder", medium.placeholder, "post", "placeholder", ("photo",)),
        )
    ]
