"""What there is to verify: each kind of key in Redis and of thing in the graph, how it is judged, how it is mended.

A new kind of key needs one line in KINDS; until it has that, its keys are reported. What is there is compared with what
the features' own code makes of Postgres now. What is not there is a miss where reads fill it, and no difference; in the
graph, which nothing fills, it is one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final, Protocol

from infra.verify.engaged import ENGAGED, FOLLOWED_BY, PLACED, erased, pair_of, recent
from infra.verify.judging import COMPLETE, DROPPED, REBUILT, Kind, Wrong, drop, judge_map, owner, short, shown
from shared.chat import projection as chat
from shared.chat import reads as chatting
from shared.comments import lists as commented
from shared.comments import projection as comments
from shared.comments import reads as commenting
from shared.engagement import projection as engagements
from shared.engagement import reads as engaging
from shared.feed import reads as feed
from shared.feed.model import FEEDS, TOLD, decoded, is_mark
from shared.graph import projection as graph
from shared.kernel import cache, ids, sessions
from shared.kernel.projection import VERSION_DIGITS, values_in
from shared.kernel.timeline import WHOLE, Timeline
from shared.notifications import projection as notifications
from shared.notifications import reads as notified
from shared.posts import lists as posts_listed
from shared.posts import projection as posts
from shared.posts import reads as listed
from shared.profiles import lists as user_lists
from shared.profiles import projection as profiles
from shared.profiles import reads as users
from shared.visibility import accepted
from shared.visibility import reads as visibility


def _values(project: Callable[[list[int]], Iterable[cache.Command]]) -> Kind:
    """Values that `project` makes of the ids that their keys end with."""

    def judge(keys: Sequence[str]) -> Iterator[Wrong]:
        (there,) = cache.run_sync(("MGET", *keys))
        wanted = values_in(project([owner(key) for key in keys]))
        yield from _unlike(keys, there, wanted)

    def mend(keys: Sequence[str]) -> None:
        # Taken away first: a version that is ahead of Postgres would refuse everything else.
        wrong = set[str | bytes | int](keys)
        commands = [command for command in project([owner(key) for key in keys]) if not wrong.isdisjoint(command)]
        cache.run_sync(("DEL", *keys), *commands)

    return Kind(judge, mend, REBUILT)


def _unlike(keys: Sequence[str], there: Sequence[bytes | None], wanted: dict[str, bytes]) -> Iterator[Wrong]:
    for key, value in zip(keys, there, strict=True):
        says = wanted.get(key)
        # What is gone comes back under no version: that of its tombstone is nothing to anyone.
        both_gone = value is not None and says is not None and len(value) == len(says) == VERSION_DIGITS
        if value is not None and value != says and not both_gone:
            yield Wrong(key, shown(value), "nothing" if says is None else shown(says))


def _judge_usernames(keys: Sequence[str]) -> Iterator[Wrong]:
    (there,) = cache.run_sync(("MGET", *keys))
    found = [user_id for value in there if value is not None and (user_id := _id_in(value)) is not None]
    wanted = values_in(profiles.rows(profiles.load(found)))
    yield from _unlike(keys, there, wanted)


def _id_in(value: bytes) -> int | None:
    try:
        return ids.decode(value.decode())
    except ValueError:
        return None


class _Seen(Protocol):
    def __call__(self, user_id: int, members: list[str], /, *, whole: bool) -> list[str]: ...


def _timeline(timeline: Timeline, newest: Callable[[int], list[str]], seen: "_Seen | None" = None) -> Kind:
    """Timelines that `newest` fills; `seen` leaves the entries that a reader is shown, of a whole list or not."""

    def judge(keys: Sequence[str]) -> Iterator[Wrong]:
        held = cache.run_sync(*[("ZRANGE", key, "+", "-", "BYLEX", "REV") for key in keys])
        for key, members in zip(keys, held, strict=True):
            has = [member.decode() for member in members]
            # One that is not complete is being built, or will be: nobody reads it.
            if COMPLETE in has:
                yield from _judge_list(key, [member for member in has if member != COMPLETE], newest(owner(key)))

    def _judge_list(key: str, has: list[str], says: list[str]) -> Iterator[Wrong]:
        # One that doesn't say that it is whole has a beginning of what Postgres has: it was as long as it gets, and may
        # have lost entries since. One that is has all, and may have grown by one or two.
        whole = has[-1:] == [WHOLE]
        has = has[: len(has) - whole]
        if seen is not None and has != says:
            has, says = seen(owner(key), has, whole=whole), seen(owner(key), says, whole=len(says) < timeline.keep)
        end = None if whole and len(says) < timeline.keep else min(len(has), len(says))
        if has[:end] != says[:end]:
            first = next((at for at, pair in enumerate(zip(has, says, strict=False)) if pair[0] != pair[1]), None)
            at = min(len(has), len(says)) if first is None else first
            yield Wrong(key, _position(has, at), _position(says, at))

    def mend(keys: Sequence[str]) -> None:
        cache.run_sync(*[timeline.forget(owner(key)) for key in keys])

    return Kind(judge, mend, DROPPED)


def _position(entries: list[str], at: int) -> str:
    entry = entries[at] if at < len(entries) else "no more"
    return f"{len(entries)} entries; number {at + 1}: {entry}"


def _shown_in_feed(user_id: int, members: list[str], *, whole: bool) -> list[str]:
    # Whom the gate hides, who tells or whose post it is, may be in it or not.
    found = {text: decoded(text) for text in _with_merged(members, whole=whole)}
    people = {person for entry in found.values() for person in (entry.teller, entry.author_id)}
    relations = visibility.between(user_id, list(people))
    # And so may what was deleted: a post, or the account of who reposted it.
    there = {row.id for row in posts.load({entry.post_id for entry in found.values()}) if row.deleted_at is None}
    active = {state.id for state in users.states_of(list(people)) if state.active}
    return [
        text
        for text, entry in found.items()
        if feed.belongs(user_id, entry, relations) and entry.post_id in there and entry.teller in active
    ]


def _with_merged(members: list[str], *, whole: bool) -> list[str]:
    """The entries of a feed with those that are merged in on read, as far down as it tells of."""
    merged = {member[1:] for member in members if is_mark(member)}
    entries = [member for member in members[len(merged) :] if member[-ids.LENGTH :] not in merged]
    for author in merged:
        entries += feed.newest_told(ids.decode(author))
    end = "" if whole else members[-1]
    return sorted((entry for entry in entries if entry >= end), reverse=True)


def _of_posts_not_deleted(_: int, entries: list[str], **__: bool) -> list[str]:
    # What is reposted may have been deleted since: its own card hides it.
    there = {row.id for row in posts.load({decoded(text).post_id for text in entries}) if row.deleted_at is None}
    return [text for text in entries if decoded(text).post_id in there]


def _judge_relations(keys: Sequence[str]) -> Iterator[Wrong]:
    held = cache.run_sync(*[("HGETALL", key) for key in keys])
    for key, reply in zip(keys, held, strict=True):
        if reply:
            has = {name.decode(): value for name, value in zip(reply[::2], reply[1::2], strict=True)}
            yield from judge_map(key, has, visibility.fields_of(owner(key)))


def _judge_sessions(keys: Sequence[str]) -> Iterator[Wrong]:
    (there,) = cache.run_sync(("MGET", *keys))
    for key, value in zip(keys, there, strict=True):
        live = sessions.is_live_in_postgres(owner(key))
        if value is not None and value != (b"1" if live else b"0"):
            yield Wrong(key, short(value.decode(errors="replace")), "1" if live else "0")


def _mend_sessions(keys: Sequence[str]) -> None:
    for key in keys:
        session_id = owner(key)
        live = sessions.is_live_in_postgres(session_id)
        # One that lives is asked of Postgres by its next request: only an end may be written without asking again.
        cache.run_sync(("DEL", key) if live else sessions.ended(session_id))


def _judge_graph_users(keys: Sequence[str]) -> Iterator[Wrong]:
    wanted = {state.id: state.username for state in users.states_of([owner(key) for key in keys]) if state.active}
    there = graph.usernames_of([owner(key) for key in keys])
    for key in keys:
        has, says = there.get(owner(key), "nobody"), wanted.get(owner(key), "nobody")
        if has != says:
            yield Wrong(key, str(has), says)


def _mend_graph_users(keys: Sequence[str]) -> None:
    graph.project(users=[owner(key) for key in keys])


def _judge_graph_follows(keys: Sequence[str]) -> Iterator[Wrong]:
    pairs = [_pair(key) for key in keys]
    wanted = {(row.follower_id, row.followee_id) for row in users.follows_among(pairs) if row.following}
    there = graph.follows_among(pairs)
    for key, pair in zip(keys, pairs, strict=True):
        if (pair in there) != (pair in wanted):
            has, says = ("follows" if pair in where else "doesn't follow" for where in (there, wanted))
            yield Wrong(key, has, says)


def _mend_graph_follows(keys: Sequence[str]) -> None:
    graph.project(pairs=[_pair(key) for key in keys])


def _pair(key: str) -> tuple[int, int]:
    one, _, other = key.partition(">")
    return ids.decode(one), ids.decode(other)


def follow_key(pair: tuple[int, int]) -> str:
    """A follow, as the graph's are named here."""
    return f"{ids.encode(pair[0])}>{ids.encode(pair[1])}"


def of_people_there(subject: int, entries: list[Any]) -> list[Any]:
    """The entries of a list about a subject whose users have not deleted their accounts: no card shows those who have.

    Nor is anything shown of a subject that was erased itself.
    """
    if erased([subject]):
        return []
    there = {state.id for state in users.states_of([entry.user_id for entry in entries]) if state.active}
    return [entry for entry in entries if entry.user_id in there]


def of_posts_there(_: int, entries: list[Any]) -> list[Any]:
    """The entries of a list whose posts were not deleted: those that were are hidden by their own cards."""
    there = {row.id for row in posts.load(entry.post_id for entry in entries) if row.deleted_at is None}
    return [entry for entry in entries if entry.post_id in there]


# By what a key begins with, up to its last id. The longest that fits is its kind.
KINDS: Final[dict[str, Kind]] = {
    "card": _values(lambda found: profiles.rows(profiles.load(found))),
    "profile": _values(lambda found: profiles.rows(profiles.load(found))),
    "username": Kind(_judge_usernames, drop, DROPPED),
    "post": _values(lambda found: posts.rows(posts.load(found))),
    "posts": _timeline(posts.OF_AUTHOR, listed.newest),
    "feed": _timeline(FEEDS, feed.newest, _shown_in_feed),
    "told": _timeline(TOLD, feed.newest_told, _of_posts_not_deleted),
    "relations": Kind(_judge_relations, drop, DROPPED),
    notifications.NOTIFICATIONS.name: recent(notifications.NOTIFICATIONS, notified.newest),
    "comment": _values(lambda found: comments.rows(comments.load(found))),
    "comments": _timeline(comments.LISTS, commenting.newest),
    "engaged": ENGAGED,
    "followed_by": FOLLOWED_BY,
    **{
        which.timeline.name: _timeline(which.timeline, partial(user_lists.newest, which))
        for which in (user_lists.FOLLOWERS, user_lists.FOLLOWING, user_lists.BLOCKED, user_lists.MUTED)
    },
    **{
        kept.name: recent(kept, partial(posts_listed.newest, kept), of_posts_there)
        for kept in (posts.SAVED, posts.REACTED, posts.MENTIONING)
    },
    **{
        kept.name: recent(kept, partial(engaging.newest, part), of_people_there)
        for part, kept in engagements.OF_SUBJECT.items()
    },
    comments.COMMENTED.name: recent(comments.COMMENTED, commented.newest),
    **{kept.name: recent(kept, partial(chatting.newest_chats, box)) for box, kept in chat.BOXES.items()},
    accepted.ACCEPTED.name: recent(accepted.ACCEPTED, accepted.of_postgres, whose=pair_of),
    chat.MESSAGES.name: recent(chat.MESSAGES, chatting.newest_messages, whose=pair_of),
    "placed": PLACED,
    "session": Kind(_judge_sessions, _mend_sessions, REBUILT),
}
# Whose keys end with two ids.
PAIRS: Final = ("placed", chat.MESSAGES.name, accepted.ACCEPTED.name)
# What is in Redis alone, for a while; Postgres has nothing to compare it with.
PASSING: Final = {
    *(f"{name}:{mark}" for name in KINDS for mark in ("building", "dropped", "undone")),
    "limit", "ticket", "inbox", "live", "heard", "presence", "typing",
}  # fmt: skip
GRAPH_USERS: Final = "graph user"
GRAPH_FOLLOWS: Final = "graph follow"
GRAPH: Final[dict[str, Kind]] = {
    GRAPH_USERS: Kind(_judge_graph_users, _mend_graph_users, REBUILT),
    GRAPH_FOLLOWS: Kind(_judge_graph_follows, _mend_graph_follows, REBUILT),
}
UNKNOWN: Final = "unknown"


def _judge_unknown(keys: Sequence[str]) -> Iterator[Wrong]:
    for key, kind in zip(keys, cache.run_sync(*[("TYPE", key) for key in keys]), strict=True):
        if kind != b"none":
            yield Wrong(key, f"a {kind.decode()}", "no rule knows this kind of key: infra/verify/kinds.py")


def _mend_nothing(keys: Sequence[str]) -> None:
    """What nobody knows is for somebody to look at."""


ALL: Final[dict[str, Kind]] = {**KINDS, **GRAPH, UNKNOWN: Kind(_judge_unknown, _mend_nothing, "left as it is")}


def kind_of(key: str) -> str:
    """The kind of a key in Redis; empty for what passes, UNKNOWN where no rule knows it."""
    prefix = key
    while ":" in prefix:
        prefix = prefix.rpartition(":")[0]
        if prefix in PASSING:
            return ""
        if prefix in KINDS:
            return prefix if prefix == "username" or _ends_as(key, prefix) else UNKNOWN
    return UNKNOWN


def _ends_as(key: str, kind: str) -> bool:
    """Whether a key is its kind's name and an id, or two of a pair."""
    if key.count(":") != 1:
        return False
    try:
        pair_of(key) if kind in PAIRS else owner(key)
    except ValueError:
        return False
    return True
