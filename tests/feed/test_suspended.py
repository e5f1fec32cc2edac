"""Who sees posts of somebody who is suspended hears it where they are, and reads anew; and again when they are back."""

from collections.abc import Callable
from typing import TypeVar

import msgspec
import pytest

from functions.background.feeds import tell_of_suspension
from infra.leaks.plant import suspend
from infra.local.stack import Stack
from shared.feed import actions
from shared.feed.model import ReadersChunk, TellersChunk
from shared.kernel import db
from shared.moderation.actions import unsuspend
from tests.client import Live, Person, standing_still, wait_until
from tests.feed.merging import id_of
from tests.heard import wait_until_heard

C = TypeVar("C", TellersChunk, ReadersChunk)


class PayloadRow(msgspec.Struct, frozen=True):
    payload: bytes


TAKE = db.Statement("DELETE FROM outbox WHERE topic = :topic RETURNING payload", PayloadRow)


def resyncs(live: Live) -> int:
    return [event["event"] for event in live.drain()].count("resync")


def told(stack: Stack, lives: list[Live], times: int) -> None:
    """Each hears it so many times in all, and no more."""
    for live in lives:
        wait_until(lambda live=live: resyncs(live) >= times)
    wait_until_heard(stack)
    assert [resyncs(live) for live in lives] == [times] * len(lives)


def test_followers_and_those_of_who_reposted_read_anew_each_time(stack: Stack, person: Callable[[], Person]) -> None:
    author, fan, reposter, friend, other, stranger = (person() for _ in range(6))
    for follower, followed in ((fan, author), (reposter, author), (friend, reposter), (stranger, other)):
        follower.follow(followed.username)
    post = author.post_photo("Buy my coins")["id"]
    reposter.put(f"/v1/posts/{post}/repost")
    readers = (fan, reposter, friend)

    def shows() -> list[bool]:
        return [post in [one["id"] for one in reader.items("/v1/feed")] for reader in readers]

    wait_until(lambda: all(shows()))
    with fan.live() as one, reposter.live() as two, friend.live() as three, stranger.live() as none:
        lives = [one, two, three]
        suspend(stack, author)
        for live in lives:
            live.event("resync")
        # What it has them read is true by then.
        assert shows() == [False] * 3
        unsuspend(author.username)
        told(stack, lives, 2)
        assert shows() == [True] * 3
        suspend(stack, author)
        told(stack, lives, 3)
        assert shows() == [False] * 3
        assert resyncs(none) == 0


def test_chunk_after_chunk_each_goes_on_once_however_often_it_comes(
    monkeypatch: pytest.MonkeyPatch, stack: Stack, person: Callable[[], Person]
) -> None:
    author, one, two = (person() for _ in range(3))
    for reposted in [author.post_photo(text)["id"] for text in ("Older", "Newer")]:
        for reposter in (one, two):
            reposter.put(f"/v1/posts/{reposted}/repost")
    for name in ("CHUNK", "CHUNK_TO_FIND"):
        monkeypatch.setattr(actions, name, 1)
    with one.live() as first, two.live() as second, standing_still(stack, "relay"):
        for reader in (one, two):
            reader.follow(author.username)
        todo: list[TellersChunk | ReadersChunk] = [TellersChunk(id_of(author), 7)]
        seen: list[TellersChunk | ReadersChunk] = []
        while todo:
            chunk = todo.pop()
            seen.append(chunk)
            for _ in range(2):
                tell_of_suspension(chunk)
            todo += [*taken(TellersChunk), *taken(ReadersChunk)]
        tellers = [id_of(two), id_of(one)]
        readers = [chunk for chunk in seen if isinstance(chunk, ReadersChunk)]
        assert [chunk.teller_id for chunk in readers if not chunk.after].count(id_of(author)) == 1
        assert sorted(chunk.teller_id for chunk in readers if chunk.teller_id in tellers) == sorted(tellers * 2)
        # An older turn that comes late is no news.
        tell_of_suspension(ReadersChunk(id_of(author), 6, id_of(author), 0))
        assert [resyncs(live) for live in (first, second)] == [1, 1]


def taken(kind: type[C]) -> list[C]:
    """The chunks in the outbox, taken out as the relay would."""
    with db.connection() as conn:
        return [msgspec.json.decode(row.payload, type=kind) for row in TAKE.all(conn, topic=kind.topic)]
