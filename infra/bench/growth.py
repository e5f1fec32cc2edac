"""What grows with followers and with posts: a fan-out no more than in proportion, a read of the feed not at all."""

import asyncio
import time
from collections.abc import Callable
from statistics import median
from typing import Final
from urllib.parse import urlsplit

import msgspec

from infra.bench import load
from infra.bench.report import Measure
from infra.local.stack import Stack
from shared.feed import actions, reads
from shared.feed.model import FEEDS, FeedChunk
from shared.kernel import cache, clock, db, ids
from shared.kernel.pages import cursor
from shared.profiles import reads as profiles
from tests.client import Person, sign_up, standing_still

FOLLOWERS: Final = (1_000, 10_000)
POSTS: Final = (1_000, 1_000_000)
# What it may cost more than in proportion, or than among few: what is measured twice differs by a fifth here.
AT_MOST: Final = 1.5
AUTHORS: Final = 20
ROUNDS: Final = 5
READ_SECONDS: Final = 1.0
BATCH: Final = 500
STANDING_STILL: Final = ("relay", "background", "live", "pubsub", "console")


class PayloadRow(msgspec.Struct, frozen=True):
    """An event in the outbox."""

    payload: bytes


_MAKE_FOLLOWERS: Final = db.Statement(
    """WITH made AS (
         INSERT INTO users (id, username, email, name, password_hash, created_at)
         SELECT id, 'fan' || id, 'fan' || id || '@example.com', '', '', :now
           FROM unnest(CAST(:ids AS bigint[])) AS new (id) RETURNING id
       )
       INSERT INTO relationships (user_id, other_id, follow_id) SELECT id, :author, id FROM made"""
)
_MAKE_POSTS: Final = db.Statement(
    """INSERT INTO posts (id, author_id, type, media, description, created_at)
       SELECT CAST(:first AS bigint) + n, of[1 + n % cardinality(of)], 'photo:square', '[]', '', :now
         FROM generate_series(CAST(:made AS bigint), CAST(:count AS bigint) - 1) AS n,
              (SELECT CAST(:authors AS bigint[])) AS authors (of)"""
)
_TAKE: Final = db.Statement("DELETE FROM outbox WHERE topic = 'feed_chunk' RETURNING payload", PayloadRow)
_SETTLED: Final = db.Statement("INSERT INTO merged_authors (user_id, rise_id, settled) VALUES (:author, 1, true)")


def measure(stack: Stack, say: Callable[[str], None]) -> list[Measure]:
    """The ratios, each within this run."""
    authors = [sign_up(stack) for _ in range(AUTHORS)]
    reader = sign_up(stack)
    for author in authors:
        reader.follow(author.username)
    with standing_still(stack, *STANDING_STILL):
        return [*_fan_outs(authors[:3], say), *_reads(stack, reader, authors, say)]


def _fan_outs(authors: list[Person], say: Callable[[str], None]) -> list[Measure]:
    """What a follower costs, of few and of many in turn; and of as many where the author is merged in on read."""
    few, many = FOLLOWERS
    of_few, of_many, merged = authors
    for author, count in zip(authors, (few, many, many), strict=True):
        say(f"{count:,} followers")
        _make_followers(_id_of(author), count)
    with db.connection() as conn:
        _SETTLED.run(conn, author=_id_of(merged))
    rounds: list[tuple[float, ...]] = []
    for n in range(ROUNDS):
        say(f"fan-out to {few:,} and to {many:,} followers, {n + 1} of {ROUNDS}")
        # As many are told each time: what else this machine does meanwhile weighs alike.
        rounds.append((_fan_out(of_few, many // few), _fan_out(of_many, 1), _fan_out(merged, 1)))
    costs = [median(took / many for took in each) for each in zip(*rounds, strict=True)]
    return [
        _ratio(f"fan-out to {many:,} to that to {few:,}, a follower", costs[:2], "a follower"),
        Measure("fan-out where merged in on read", costs[2] * 1e6, "µs a follower", detail=f"of {many:,}, none here"),
    ]


def _make_followers(author: int, count: int) -> None:
    """With feeds in Redis, which take what is fanned out."""
    first = ids.new_id()
    made = [first + n for n in range(count)]
    with db.unlimited() as conn:
        _MAKE_FOLLOWERS.run(conn, ids=made, author=author, now=clock.now_ms())
        conn.command("ANALYZE users, relationships")
    for start in range(0, count, BATCH):
        some = made[start : start + BATCH]
        marks = cache.run_sync(*map(FEEDS.begin_building, some))
        cache.run_sync(*[FEEDS.fill(owner, mark, []) for owner, mark in zip(some, marks, strict=True)])


def _fan_out(author: Person, posts: int) -> float:
    """Seconds from the first chunk to the last, of so many new posts."""
    user_id = _id_of(author)
    made = [ids.decode(author.post_photo("Measured", seed=n)["id"]) for n in range(posts)]
    began = time.perf_counter()
    for post in made:
        under_way: list[FeedChunk] = [FeedChunk(post, user_id, 0, deleted=False)]
        while under_way:
            for chunk in under_way:
                actions.fan_out(chunk)
            with db.connection() as conn:
                under_way = [msgspec.json.decode(row.payload, type=FeedChunk) for row in _TAKE.all(conn)]
    return time.perf_counter() - began


def _reads(stack: Stack, reader: Person, authors: list[Person], say: Callable[[str], None]) -> list[Measure]:
    """A first page, and the building of a feed, among few posts and among many; a page of Postgres, high and deep."""
    user_id, of = _id_of(reader), [_id_of(author) for author in authors]
    # Older than all that was made here before.
    first = (clock.now_ms() - ids.EPOCH_MS - 40 * 86_400_000) << ids.RANDOM_BITS
    pages: list[float] = []
    builds: list[float] = []
    made = 0
    for count in POSTS:
        say(f"feed reads among {count:,} posts")
        with db.unlimited() as conn:
            _MAKE_POSTS.run(conn, first=first, authors=of, made=made, count=count, now=clock.now_ms())
            conn.command("VACUUM ANALYZE posts")
        made = count
        cache.run_sync(FEEDS.forget(user_id))
        pages.append(_page(stack, reader, None))
        builds.append(median(asyncio.run(_built(user_id)) for _ in range(ROUNDS)))
    say("feed pages of Postgres")
    down = [_page(stack, reader, first + made - below) for below in (2 * FEEDS.keep, made // 2)]
    few, many = (f"{count:,}" for count in POSTS)
    return [
        _ratio(f"feed of 20, among {many} posts to {few}", pages, "a request"),
        _ratio(f"a feed is built, among {many} posts to {few}", builds, "each"),
        _ratio(f"a page {made // 2:,} posts down to one {2 * FEEDS.keep:,} down", down, "a request"),
    ]


def _page(stack: Stack, reader: Person, before: int | None) -> float:
    """Seconds a request for a page of 20 takes, many under way at once."""
    after = "" if before is None else f"&cursor={cursor('f', before)}"
    requests = [load.request("GET", f"/v1/feed?limit=20{after}", reader.session["access_token"])]
    port = urlsplit(stack.api).port or 0
    load.apply(port, requests, seconds=READ_SECONDS)
    tallies = [load.apply(port, requests, seconds=READ_SECONDS) for _ in range(ROUNDS)]
    if bad := {status for tally in tallies for status in tally.statuses if status != 200}:
        raise AssertionError(f"a page of the feed was answered {bad}")
    return median(1 / tally.per_second for tally in tallies)


async def _built(user_id: int) -> float:
    await cache.run(FEEDS.forget(user_id))
    began = time.perf_counter()
    await reads.build(user_id)
    return time.perf_counter() - began


def _ratio(name: str, costs: list[float], unit: str) -> Measure:
    few, many = costs
    detail = f"{few * 1000:.3f} ms {unit}, then {many * 1000:.3f}"
    return Measure(name, many / few, "×", AT_MOST, at_most=True, detail=detail)


def _id_of(person: Person) -> int:
    return profiles.named([person.username])[person.username]
