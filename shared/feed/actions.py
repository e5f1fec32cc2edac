"""Bringing posts into feeds and out of them: in chunks of followers, each an event, so that no run is long.

Authors with many followers are merged into feeds on read: of theirs, followers who are here are told live, and no more.
"""

from collections import defaultdict
from typing import Final

import msgspec

from shared.engagement import reads as engagement
from shared.engagement.model import NOTHING, Engagement, PostReposted
from shared.feed import reads, store
from shared.feed.model import (
    FEEDS,
    AuthorErased,
    Entry,
    FeedChunk,
    FeedRepost,
    MergeChunk,
    ReadersChunk,
    RepostsChunk,
    TellersChunk,
    mark_of,
    shown,
    taken_back,
    told,
    withdrawn,
)
from shared.kernel import cache, clock, db, events, ids, log
from shared.kernel.config import settings
from shared.live import publish
from shared.posts import reads as posts
from shared.posts.model import PostDeleted
from shared.profiles import reads as profiles
from shared.profiles.model import BlockChanged, FollowChanged, MuteChanged, UserCard
from shared.visibility import reads as visibility
from shared.visibility.model import may_notify, may_see, shows_in_feed

CHUNK: Final = 500
# Of followers who are only looked for: a few of them are here.
CHUNK_TO_FIND: Final = 2000
# What followers are told of an entry, by versions: it is there, then gone. Where what they have instead of it goes as
# they are told, they are told again, by the next.
_THERE: Final = 1
_GONE: Final = 2


def repost_changed(event: PostReposted) -> None:
    """Tell the first chunk of a reposter's followers of a repost, or that it was undone: whichever it is by now."""
    there = engagement.is_reposted(event.subject_id, event.user_id, event.act_id)
    repost = FeedRepost(event.act_id, event.user_id)
    cache.run_sync(*(told if there else taken_back)(Entry(event.subject_id, event.author_id, repost)))
    fan_out(FeedChunk(event.subject_id, event.author_id, 0, not there, repost))


def post_deleted(event: PostDeleted) -> None:
    """Tell an author's first followers that a post is gone, and have those of the first who reposted it told."""
    fan_out(FeedChunk(event.post_id, event.author_id, 0, deleted=True))
    reposts_gone(RepostsChunk(event.post_id, event.author_id, ids.MAX))


def reposts_gone(chunk: RepostsChunk) -> None:
    """Have the followers told of each who made one of these reposts, and then leave the rest to the next."""
    reposts = engagement.reposts_before(chunk.post_id, chunk.before, CHUNK)
    if reposts:
        chunks = [FeedChunk(chunk.post_id, chunk.author_id, 0, True, FeedRepost(*one)) for one in reposts]
        rest = [msgspec.structs.replace(chunk, before=reposts[-1][0])] if len(reposts) == CHUNK else []
        # As in `fan_out`, by this chunk, whatever is in it by now.
        _go_on(f"feed:{ids.encode(chunk.post_id)}:reposts:{chunk.before}", *chunks, *rest)


def author_erased(event: AuthorErased) -> None:
    """Tell those who followed an account that was deleted that its posts and reposts are gone."""
    # Each hears a lot at once, and whether there were many followers isn't known any more: so only who is here is told.
    followers = publish.present(event.followers)
    if not followers:
        return
    former = profiles.Card(event.user_id, msgspec.json.encode(UserCard(event.username, "", None)))
    for post_id, repost_id in [*((post_id, None) for post_id in event.post_ids), *event.reposts]:
        if repost_id is None:
            _deliver_gone(post_id, post_id, None, followers, _GONE)
        else:
            _tell_repost_gone(repost_id, post_id, former, followers)


def tellers_turned(chunk: TellersChunk) -> None:
    """Have followers of an author, and of the next who reposted them, read anew, and then leave the rest to the next.

    As after a block: what shows is another feed, and comes back as it was, so that no entry is told to be gone.
    """
    with db.connection() as conn:
        rows = store.REPOSTS_OF.all(
            conn, author_id=chunk.author_id, post_id=chunk.post_id, before=chunk.before, newest=ids.MAX, limit=CHUNK
        )
    tellers = {row.reposter_id for row in rows if row.reposter_id is not None}
    if chunk.post_id == ids.MAX:
        # By the time that anybody reads, whatever became of the request that suspended them.
        profiles.refresh([chunk.author_id])
        tellers.add(chunk.author_id)
    readers = [ReadersChunk(chunk.author_id, chunk.version, teller, 0) for teller in sorted(tellers)]
    rest = []
    if len(rows) == CHUNK:
        rest = [msgspec.structs.replace(chunk, post_id=rows[-1].post_id, before=rows[-1].position)]
    # As in `fan_out`, by this chunk, whatever is in it by now.
    _go_on(f"{_turn_of(chunk)}:{chunk.version}:{chunk.post_id}:{chunk.before}", *readers, *rest)


def read_anew(chunk: ReadersChunk) -> None:
    """Have those of one chunk of followers who are here read anew, each once, and then leave the rest to the next."""
    followers = profiles.followers_after(chunk.teller_id, chunk.after, CHUNK_TO_FIND)
    own = [] if chunk.after else [chunk.teller_id]
    here = publish.present([*own, *[user_id for user_id, _ in followers]])
    heard = [user_id for user_id, one in visibility.towards(chunk.teller_id, here).items() if may_notify(one)]
    publish.deliver(heard, "resync", b"{}", once=_turn_of(chunk), version=chunk.version)
    if len(followers) == CHUNK_TO_FIND:
        effect = f"{_turn_of(chunk)}:{chunk.version}:of:{ids.encode(chunk.teller_id)}:{chunk.after}"
        _go_on(effect, msgspec.structs.replace(chunk, after=followers[-1][1]))


def _turn_of(chunk: TellersChunk | ReadersChunk) -> str:
    return f"turn:{ids.encode(chunk.author_id)}"


def fan_out(chunk: FeedChunk) -> None:
    """Tell one chunk of followers, and then leave the rest to the next.

    What is told is what the post is by now: a chunk that comes late, or again, brings no deleted post back, nor a
    repost that was undone.
    """
    entry = Entry(chunk.post_id, chunk.author_id, chunk.repost)
    merged = _is_merged(entry.teller)
    size = CHUNK_TO_FIND if merged else CHUNK
    followers = profiles.followers_after(entry.teller, chunk.after, size)
    # With the first of them, whoever tells it: it is in their own feed, on all their devices. Who is erased has none.
    own = [] if chunk.after else [user.id for user in profiles.states_of([entry.teller]) if user.active]
    everyone = [*own, *[user_id for user_id, _ in followers]]
    if merged and everyone:
        everyone = publish.present(everyone)
    if everyone:
        _tell(chunk, entry, everyone, merged=merged)
    if len(followers) == size:
        # Once a chunk, however often it comes: else each repeat would start a train of copies. By this chunk and not by
        # the next: where that begins differs once somebody has stopped following.
        after = followers[-1][1]
        effect = f"feed:{ids.encode(entry.position)}:{chunk.after}:{chunk.deleted}"
        _go_on(effect, msgspec.structs.replace(chunk, after=after))


def _is_merged(author_id: int) -> bool:
    """Whether all feeds know that they are to merge in an author."""
    with db.connection() as conn:
        return store.IS_SETTLED.maybe(conn, user_id=author_id) is not None


def _tell(chunk: FeedChunk, entry: Entry, followers: list[int], *, merged: bool) -> None:
    relations = visibility.towards(entry.teller, followers)
    found = None if chunk.deleted else _snapshot(entry)
    everyone = list(relations)
    if found is None and (chunk.deleted or not _is_there(entry)):
        commands = withdrawn(everyone, entry)
    else:
        everyone = [
            user_id for user_id, relation in relations.items() if shows_in_feed(relation, own=user_id == entry.teller)
        ]
        if entry.repost is not None:
            authors = visibility.towards(entry.author_id, everyone)
            everyone = [user_id for user_id in everyone if may_notify(authors[user_id])]
        commands = [shown(everyone, entry)]
    if not merged:
        cache.run_sync(*commands)
    everyone = [user_id for user_id in everyone if may_notify(relations[user_id])]
    if chunk.deleted:
        _tell_gone(entry, everyone)
    elif found is not None:
        _tell_there(entry, found, everyone)


def _snapshot(entry: Entry) -> posts.Snapshot | None:
    if not _is_there(entry):
        return None
    return posts.snapshot(entry.post_id, None if entry.repost is None else entry.repost.user_id)


def _is_there(entry: Entry) -> bool:
    """Whether it belongs in feeds, also if nobody sees it just now: who is suspended comes back to what was theirs."""
    repost = entry.repost
    undone = repost is not None and not engagement.is_reposted(entry.post_id, repost.user_id, repost.id)
    return not undone and posts.is_there(entry.post_id)


def _tell_there(entry: Entry, found: posts.Snapshot, followers: list[int]) -> None:
    _deliver_there(entry.position, entry.post_id, found, followers, _THERE)
    if _snapshot(entry) is None:
        # Who has stopped following meanwhile is in no chunk that tells of its end.
        _tell_gone(entry, followers)


def _deliver_there(position: int, post_id: int, found: posts.Snapshot, followers: list[int], version: int) -> None:
    """Tell each of a post as they see it: what isn't new, some have reacted to before; not all see all it names."""
    done = {} if position == post_id else engagement.of_viewers(post_id, followers)
    hidden = found.hidden_from(followers)
    alike: defaultdict[tuple[Engagement, frozenset[str]], list[int]] = defaultdict(list)
    for user_id in followers:
        alike[done.get(user_id, NOTHING), hidden.get(user_id, frozenset())].append(user_id)
    for seen, viewers in alike.items():
        _deliver(viewers, "feed.post_created", found.seen_by(*seen), position, version, found.rests)


def _tell_gone(entry: Entry, followers: list[int]) -> None:
    """Tell of a post that was deleted, or of a repost that was undone."""
    if entry.repost is None:
        _deliver_gone(entry.position, entry.post_id, None, followers, _GONE)
        return
    card = profiles.load_cards_sync([entry.repost.user_id]).get(entry.repost.user_id)
    if card is not None:
        _tell_repost_gone(entry.position, entry.post_id, card, followers)


def _tell_repost_gone(
    repost_id: int, post_id: int, reposter: profiles.Card, followers: list[int], version: int = _GONE
) -> None:
    """Tell who has the post in their feed no more; and of the post, who has it by another now, as it shows there."""
    left = reads.shown_to(post_id, followers)
    _deliver_gone(repost_id, post_id, reposter, [user_id for user_id in followers if user_id not in left], version)
    shown: defaultdict[Entry, list[int]] = defaultdict(list)
    for user_id, entry in left.items():
        # One that is newer than what is gone was shown before, and is still.
        if entry.position < repost_id or version > _GONE:
            shown[entry].append(user_id)
    for entry, viewers in shown.items():
        found = _snapshot(entry)
        if found is not None:
            _deliver_there(repost_id, post_id, found, viewers, version)
    told = [user_id for viewers in shown.values() for user_id in viewers]
    now = reads.shown_to(post_id, told)
    changed = [user_id for user_id in told if now.get(user_id) != left[user_id]]
    if changed:
        _tell_repost_gone(repost_id, post_id, reposter, changed, version + 1)


def _deliver_gone(
    position: int, post_id: int, reposter: profiles.Card | None, followers: list[int], version: int
) -> None:
    repost = b"" if reposter is None else b',"reposted_by":%b' % reposter.json
    gone = b'{"id":"%b"%b}' % (ids.encode(post_id).encode(), repost)
    _deliver(
        followers, "feed.post_deleted", gone, position, version, {} if reposter is None else {reposter.user_id: None}
    )


def _deliver(followers: list[int], event: str, data: bytes, position: int, version: int, rests: publish.Rests) -> None:
    """Tell each of an entry once, however often and by whichever chunks, and not that it is there once it is gone.

    A post, or a repost, is there, then gone, and never comes back: these are its versions, whatever else changes.
    """
    publish.deliver(followers, event, data, once=f"feed:{ids.encode(position)}", version=version, rests=rests)


def _go_on(effect: str, *chunks: FeedChunk | MergeChunk | RepostsChunk | TellersChunk | ReadersChunk) -> None:
    with db.transaction() as conn:
        if events.first_time(conn, effect):
            events.emit(conn, *chunks)
    events.after_commit()


def follow_changed(event: FollowChanged) -> None:
    """Drop the follower's feed, where the request that followed, or stopped, could not: the next read builds it.

    And see whether the author has so many followers by now, or so few, that it changes how their posts reach them.
    """
    cache.run_sync(FEEDS.drop(event.follower_id, event.followee_id, event.version))
    # Not where a block ended it: one who is blocked isn't told.
    pair = (event.follower_id, event.followee_id)
    if event.follow_id is None and may_see(visibility.between(pair[0], [pair[1]])[pair[1]]):
        _read_anew(*pair, event.version)
    many = settings().feed_merge_followers
    with db.connection() as conn:
        store.CROSS.run(
            conn,
            author_id=event.followee_id,
            rise_id=ids.new_id(),
            many=many,
            few=max(1, many * 4 // 5),
            trace=log.trace_id.get() or None,
            now=clock.now_ms(),
        )


def merge(chunk: MergeChunk) -> None:
    """Mark an author in the feeds of one chunk of followers; after the last, nothing of theirs is fanned out."""
    followers = profiles.followers_after(chunk.author_id, chunk.after, CHUNK)
    if followers:
        cache.run_sync(FEEDS.add_to_all([user_id for user_id, _ in followers], [mark_of(chunk.author_id)]))
    if len(followers) == CHUNK:
        effect = f"merge:{ids.encode(chunk.rise_id)}:{chunk.after}"
        _go_on(effect, msgspec.structs.replace(chunk, after=followers[-1][1]))
        return
    with db.connection() as conn:
        store.SETTLE.run(conn, author_id=chunk.author_id, rise_id=chunk.rise_id)


def hearing_changed(event: BlockChanged | MuteChanged) -> None:
    """Drop the feed of one who mutes or blocks no more: what came in meanwhile was left out of it.

    And have their own devices read anew, also after they began to: what shows is another feed, and other notifications.
    """
    cache.run_sync(FEEDS.drop(event.user_id, event.other_id, event.version))
    _read_anew(event.user_id, event.other_id, event.version)


def _read_anew(user_id: int, other_id: int, version: int) -> None:
    """Have a user's own devices read anew, by this version of how they stand to the other: another feed shows."""
    # Of one who is gone it ends with the account, and shows nothing that wasn't gone before.
    if all(user.active for user in profiles.states_of([user_id, other_id])):
        once = f"resync:{ids.encode(user_id)}{ids.encode(other_id)}"
        publish.deliver([user_id], "resync", b"{}", once=once, version=version)
