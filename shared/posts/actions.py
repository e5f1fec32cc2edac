"""Making and deleting posts."""

import msgspec

from shared.kernel import cache, clock, db, events, ids
from shared.kernel.endpoint import Caller, Encoded, PostId
from shared.kernel.problems import Forbidden, Invalid, NotFound
from shared.media import actions as media
from shared.media.model import Kind
from shared.posts import projection, reads, store
from shared.posts.model import NewPost, PostCreated, PostDeleted, hashtags_in, mentions_in
from shared.profiles import reads as profiles
from shared.visibility import reads as visibility
from shared.visibility.model import may_see


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
        store.COUNT_POST.run(conn, user_id=caller.user_id, step=1)
        events.emit(conn, PostCreated(post_id, caller.user_id))
    commands, cards = profiles.fresh([caller.user_id])
    events.after_commit(*projection.rows([row]), *commands)
    if caller.user_id not in cards:
        raise Forbidden("account_gone")
    return Encoded(reads.spliced(projection.body(row), cards[caller.user_id], by_visitor=False))


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
    store.COUNT_POST.run(conn, user_id=author_id, step=-1)
    events.emit(conn, PostDeleted(post_id, author_id))
    return projection.rows([row])


def _refusal(caller: Caller, post_id: int) -> Exception:
    rows = projection.load([post_id])
    if not rows or rows[0].deleted_at is not None:
        return NotFound("post_not_found")
    author = rows[0].author_id
    if not may_see(visibility.between(caller.user_id, [author])[author]):
        return NotFound("post_not_found")
    return Forbidden("not_author", "Only its author can delete a post.")


def _owner(post_id: int) -> str:
    return f"post:{ids.encode(post_id)}"


def _wanted(new: NewPost) -> list[media.Wanted]:
    if new.type == "reel" and len(new.media) != 1:
        raise Invalid.field("media", "too_many", "A reel has one medium.")
    kinds: tuple[Kind, ...] = ("photo",) if new.type.startswith("photo") else ("video",)
    return [
        wanted
        for index, medium in enumerate(new.media)
        for wanted in (
            media.Wanted(f"media[{index}].actual", medium.actual, "post", "actual", kinds),
            media.Wanted(f"media[{index}].placeholder", medium.placeholder, "post", "placeholder", ("photo",)),
        )
    ]
