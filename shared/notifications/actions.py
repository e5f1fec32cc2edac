"""Telling users of acts, taking it back, marking as read."""

from collections.abc import Sequence, Set
from typing import Any, Final

import msgspec

from shared.comments import reads as comments
from shared.comments.model import CommentCreated, CommentDeleted, CommentEdited, CommentReacted
from shared.engagement import reads as engagement
from shared.engagement.model import PostReacted, PostReposted
from shared.kernel import cache, clock, db, events, ids, log
from shared.kernel.endpoint import Caller, Encoded, NotificationId
from shared.kernel.problems import NotFound
from shared.live import publish
from shared.notifications import projection, reads, store, told
from shared.notifications.model import (
    Act,
    ActsHidden,
    NotificationChanged,
    NotificationSettings,
    NotificationSettingsEdit,
    NotificationsRead,
    SubjectsHidden,
)
from shared.notifications.projection import NOTIFICATIONS
from shared.posts import reads as posts
from shared.posts.model import PostCreated, PostDeleted, PostEdited
from shared.profiles import reads as profiles
from shared.profiles.model import BlockChanged, FollowChanged, MuteChanged, UserChanged
from shared.visibility import reads as visibility
from shared.visibility.model import may_notify

# A notification that grows by a thousand acts a second is told live once in so long.
TOLD_APART_MS: Final = 1000
# What has not been told so long after it was due is given to another event with the next change.
_LOST_MS: Final = 60_000
# So many groups of somebody's acts, or comments on their posts, are gone through in one event.
BATCH: Final = 500


def of_follow(event: FollowChanged) -> None:
    """Tell a user of a new follower, or take it back."""
    for user in profiles.states_of([event.followee_id]):
        if user.active:
            subject = f"user:{user.username}"
            apply([Act(user.id, "follow", subject, event.follower_id, event.follow_id, event.version)])


def of_post(event: PostCreated | PostEdited | PostDeleted) -> None:
    """Tell those mentioned in a post, or take it back: whichever it is by now. What was told of a post goes with it."""
    subject, author = f"post:{ids.encode(event.post_id)}", event.author_id
    mentions = posts.mentions_of(event.post_id)
    apply([Act(one.user_id, "mention", subject, author, one.act_id, one.version) for one in mentions])
    if isinstance(event, PostDeleted):
        _look_at([(author, kind, subject) for kind in ("reaction", "comment", "repost")])
        look_below(SubjectsHidden(author, event.post_id, event.post_id, event.post_id))


def of_engagement(event: PostReacted | PostReposted | CommentReacted) -> None:
    """Tell an author that somebody reacted to or reposted what is theirs, or take it back: whichever it is by now."""
    act = engagement.act_of(event)
    if act is not None:
        kind = "repost" if isinstance(event, PostReposted) else "reaction"
        subject = f"{'comment' if isinstance(event, CommentReacted) else 'post'}:{ids.encode(event.subject_id)}"
        apply([Act(event.author_id, kind, subject, event.user_id, act.act_id, act.version)])


def of_comment(event: CommentCreated | CommentEdited | CommentDeleted) -> None:
    """Tell of a comment, or take it back: whichever it is by now. Each is told of it once.

    Whom it replies to is told as of a `reply`, else the post's author as of a `comment`, else those whom it mentions as
    of a `mention`. Of all that one user said on a post, or in reply to one comment, the newest that stands is told:
    deleting one of several takes nothing back. An edit tells of mentions alone.
    """
    told = comments.told_of(event.comment_id)
    if told is None:
        return
    acts: list[Act] = []
    if not isinstance(event, CommentEdited):
        post, on_post, in_reply = f"post:{ids.encode(told.post_id)}", told.on_post, told.in_reply
        if on_post is not None:
            acts.append(Act(told.post_author, "comment", post, told.author, on_post.newest_id, on_post.version))
        if told.parent_id is not None and told.parent_author is not None and in_reply is not None:
            parent = f"comment:{ids.encode(told.parent_id)}"
            acts.append(Act(told.parent_author, "reply", parent, told.author, in_reply.newest_id, in_reply.version))
    before = event.mentioned if isinstance(event, CommentEdited) else []
    apply([*acts, *_mentions_in(event.comment_id, told, before)])
    if isinstance(event, CommentDeleted):
        _look_at(_of_author(event.comment_id, told.author))


def _mentions_in(comment_id: int, told: comments.Told, before: list[str]) -> list[Act]:
    now = [] if told.deleted else [name for name in told.mentions if name not in before]
    over = [*before, *told.mentions] if told.deleted else [name for name in before if name not in told.mentions]
    others = {told.post_author, told.parent_author}
    subject = f"comment:{ids.encode(comment_id)}"
    acts = {
        user_id: act_id
        for found, act_id in ((profiles.lasting(over), None), (profiles.reachable(told.author, now), comment_id))
        for user_id in found.values()
        if user_id not in others
    }
    return [Act(user_id, "mention", subject, told.author, act_id, told.version) for user_id, act_id in acts.items()]


def of_stand(event: BlockChanged | MuteChanged) -> None:
    """Have the two hear of what a block hides of their notifications: by the other, or about what is theirs.

    Of a mute who muted: the other hears of what they do as before.
    """
    both = [(event.user_id, event.other_id), (event.other_id, event.user_id)]
    with db.transaction() as conn:
        for user_id, other_id in both if isinstance(event, BlockChanged) else both[:1]:
            store.LOOK_BETWEEN.run(conn, user_id=user_id, other_id=other_id, **_now())
    events.after_commit()


def of_user(event: UserChanged) -> None:
    """Have others hear of what is hidden when somebody is suspended: what they did, and what is below their posts.

    When they are back it is in the lists again, and is not told.
    """
    if event.came_or_went:
        cause_id = ids.new_id()
        look_by(ActsHidden(event.user_id, cause_id))
        look_below(SubjectsHidden(event.user_id, cause_id, 0, ids.MAX))


def look_by(event: ActsHidden) -> None:
    """Have the users of some groups in which somebody acted hear if they show less; the rest is another event's."""
    with db.connection() as conn:
        last = store.LOOK_BY.one(conn, actor_id=event.actor_id, after=event.after, limit=BATCH, **_now()).id
    events.after_commit()
    if last:
        _go_on(event, msgspec.structs.replace(event, after=last))


def look_below(event: SubjectsHidden) -> None:
    """Have those who were told of what others did below posts hear if it shows no more; the rest is another event's."""
    said = comments.below(event.author_id, event.post_id, event.after, event.last_post_id, BATCH)
    mentioned = profiles.lasting(list({name for one in said for name in one.mentions}))
    groups = [group for one in said for group in _of_author(one.id, one.author_id)]
    groups += [
        (mentioned[name], "mention", f"comment:{ids.encode(one.id)}")
        for one in said
        for name in one.mentions
        if name in mentioned
    ]
    _look_at(groups)
    if len(said) == BATCH:
        _go_on(event, msgspec.structs.replace(event, post_id=said[-1].post_id, after=said[-1].id))


def _go_on(event: ActsHidden | SubjectsHidden, rest: ActsHidden | SubjectsHidden) -> None:
    # Once an event, however often it comes: else each repeat would start a train of copies.
    effect = f"look:{event.topic}:{ids.encode(event.cause_id)}:{event.after}"
    with db.transaction() as conn:
        if events.first_time(conn, effect):
            events.emit(conn, rest)
    events.after_commit()


def _of_author(comment_id: int, author_id: int) -> list[tuple[int, str, str]]:
    """The groups in which a comment's author is told of what others did with it."""
    subject = f"comment:{ids.encode(comment_id)}"
    return [(author_id, "reply", subject), (author_id, "reaction", subject)]


def _look_at(groups: Sequence[tuple[int, str, str]]) -> None:
    """Have the users of groups (user, type, subject) hear of those that show no more."""
    with db.connection() as conn:
        store.LOOK_AT.run(
            conn,
            user_ids=[user_id for user_id, _, _ in groups],
            kinds=[kind for _, kind, _ in groups],
            subjects=[subject for _, _, subject in groups],
            **_now(),
        )
    events.after_commit()


def _now() -> dict[str, Any]:
    return {"now": clock.now_ms(), "trace": log.trace_id.get() or None}


def _apart() -> dict[str, int]:
    return {"apart": TOLD_APART_MS, "lost": clock.now_ms() - _LOST_MS}


def apply(acts: Sequence[Act]) -> None:
    """Bring acts into their notifications: in any order, any number of times, it ends the same.

    Nobody is told of themselves, nor across a block, of someone muted, or of a type they want none of; taking back is
    done for all.
    """
    others = [act for act in acts if act.user_id != act.actor_id]
    relations = visibility.among([(act.user_id, act.actor_id) for act in others])
    heard = {pair for pair, relation in relations.items() if may_notify(relation)}
    told = [act for act in others if act.act_id is None or (act.user_id, act.actor_id) in heard]
    changed = db.retrying(_apply, told, heard) if told else []
    if changed:
        events.after_commit(*map(NOTIFICATIONS.changed, changed))


def _apply(acts: Sequence[Act], heard_of: Set[tuple[int, int]]) -> list[int]:
    """The users whose notifications have changed. `heard_of`: users, and of whom each may be told."""
    keys = list(dict.fromkeys((act.user_id, act.type, act.subject) for act in acts))
    with db.transaction() as conn:
        groups = store.LOCK_GROUPS.all(
            conn,
            ids=[ids.new_id() for _ in keys],
            user_ids=[user_id for user_id, _, _ in keys],
            kinds=[kind for _, kind, _ in keys],
            subjects=[subject for _, _, subject in keys],
        )
        by_key = {(group.user_id, group.type, group.subject): group for group in groups}
        newest = {
            (by_key[act.user_id, act.type, act.subject], act.actor_id): act
            for act in sorted(acts, key=lambda act: act.version)
        }
        heard = store.SET_ACTS.all(
            conn,
            ids=[group.id for group, _ in newest],
            actor_ids=[actor_id for _, actor_id in newest],
            act_ids=[act.act_id for act in newest.values()],
            versions=[act.version for act in newest.values()],
            unwanted=[group.unwanted for group, _ in newest],
        )
        if not heard:
            return []  # it was all heard before, or something newer was
        seen = {group.id for group, actor_id in newest if (group.user_id, actor_id) in heard_of}
        changed = store.COUNT_ACTS.all(
            conn,
            ids=[group.id for group in heard],
            steps=[group.step for group in heard],
            added_ids=[group.added_id for group in heard],
            seen=[group.id in seen for group in heard],
            **_apart(),
            **_now(),
        )
    return [row.user_id for row in changed]


def push(event: NotificationChanged) -> None:
    """Tell the user's sockets what a notification is by now: each change is heard, once, at least in what it led to.

    Before that, what is cached of them is dropped: who hears of a change reads it. What is told goes by when it was
    read: of two at once the older never comes last, nor what shows after that it does no more.
    """
    which = {"id": event.notification_id, "user_id": event.user_id}
    with db.connection() as conn:
        due = {"due_at": event.due_at, "now": clock.now_ms()}
        if event.news and store.BEGIN_TELLING.maybe(conn, **which, **due) is None:
            return
        group = store.BY_ID.maybe(conn, **which)
        if group is not None and group.seen_id is None:
            store.RETIRE.run(conn, **which)
    if group is None:
        refresh(event.user_id)
        return
    found = profiles.load_cards_sync(group.actors)
    rank = told.rank(group, showing=bool(found), looks=not event.news)
    _, ranked = cache.run_sync(NOTIFICATIONS.changed(event.user_id), rank)
    if ranked is None:
        return
    if not event.news:
        # It is told when it is due: what goes viral is told once a second, also when many who acted in it are hidden.
        with db.connection() as conn:
            store.TELL_HIDDEN.run(conn, **which, **_apart(), **_now())
        events.after_commit()
        return
    once = f"notification:{ids.encode(group.id)}"
    if not found:
        # Nobody is left in it who may be seen. It may have been made and taken back at once, and be news to nobody.
        gone = b'{"id":"%b"}' % ids.encode(group.id).encode()
        publish.deliver([event.user_id], "notification.revoked", gone, once=once, version=int(ranked))
        return
    entry = projection.entry_of(group)
    subjects = [subject for subject in (entry.post_id, entry.comment_id) if subject is not None]
    rests = dict.fromkeys([*entry.actors, *entry.authors, *subjects])
    there = reads.encoded(entry, found)
    publish.deliver([event.user_id], "notification.created", there, once=once, version=int(ranked), rests=rests)


def mark_read(caller: Caller, notification_id: NotificationId) -> Encoded:
    """Mark a notification of the caller's as read. Raises NotFound, also where nobody is left in it who may be seen."""
    which = {"id": notification_id, "user_id": caller.user_id}
    with db.transaction() as conn:
        if store.MARK_READ.run(conn, **which):
            events.emit(conn, NotificationsRead(caller.user_id))
        group = store.BY_ID.maybe(conn, **which)
        if group is None or group.seen_id is None:
            raise NotFound("notification_not_found")
    events.after_commit(NOTIFICATIONS.changed(caller.user_id))
    return Encoded(reads.encoded(projection.entry_of(group), profiles.load_cards_sync(group.actors)))


def mark_all_read(caller: Caller) -> None:
    """Mark all of the caller's notifications as read."""
    with db.transaction() as conn:
        if store.MARK_ALL_READ.run(conn, user_id=caller.user_id):
            events.emit(conn, NotificationsRead(caller.user_id))
    events.after_commit(NOTIFICATIONS.changed(caller.user_id))


def forgetting(user_ids: Sequence[int]) -> list[cache.Command]:
    """The commands of `refresh`, for whoever has more to tell Redis in the same trip."""
    return [NOTIFICATIONS.changed(user_id) for user_id in user_ids]


def edit_settings(caller: Caller, edit: NotificationSettingsEdit) -> NotificationSettings:
    """Turn types of notifications on and off, for what others do from now on; what was told stays."""
    named = {kind: wanted for kind, wanted in msgspec.structs.asdict(edit).items() if wanted is not msgspec.UNSET}
    on = [kind for kind, wanted in named.items() if wanted]
    off = [kind for kind, wanted in named.items() if not wanted]
    with db.connection() as conn:
        row = store.EDIT_SETTINGS.one(conn, user_id=caller.user_id, on=on, off=off)
    return reads.settings_without(row.unwanted)


def refresh(user_id: int) -> None:
    """Drop what is cached of a user's notifications; the next read fills it. Raises CacheUnavailable.

    Also for whoever changes whom the user blocks or mutes, or is blocked by: it holds what the user may see.
    """
    cache.run_sync(NOTIFICATIONS.changed(user_id))
