"""Topics: who subscribes to a post or comment hears how it is counted, while they may see it."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import msgspec
import pytest

from infra.local.stack import Stack
from shared.comments.projection import key
from shared.kernel import cache, db, ids
from tests.client import Format, Live, Person, sign_up, wait_until
from tests.comments.thread import comment, reply
from tests.heard import wait_until_heard
from tests.live.instances import instance

METRICS = ("id", "counts", "reactions")


def metrics_of(shown: dict[str, Any]) -> dict[str, Any]:
    return {name: shown[name] for name in METRICS}


def heard(live: Live, name: str, subject: str) -> list[dict[str, Any]]:
    """What came of a subject so far."""
    live.drain()
    return [event["data"] for event in live.events if event["event"] == name and event["data"]["id"] == subject]


def subscribe(live: Live, *topics: str) -> dict[str, Any]:
    reply = live.act("subscribe", {"topics": list(topics)})
    assert reply["ok"], reply
    return reply["data"]


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_a_post_and_a_comment_on_screen_count_as_a_fresh_read_does(stack: Stack, alice: Person, format: Format) -> None:
    bob = sign_up(stack, format=format)
    post = alice.post_photo("Count me")
    said = comment(alice, post)
    topics = [f"post:{post['id']}", f"comment:{said['id']}"]
    with bob.live() as live:
        assert subscribe(live, *topics) == {"topics": sorted(topics)}
        # How they are as it begins.
        wait_until(lambda: heard(live, "post.metrics", post["id"])[-1]["counts"]["comments"] == 1)
        assert heard(live, "comment.metrics", said["id"])[-1] == metrics_of(alice.get(f"/v1/comments/{said['id']}"))
        alice.put(f"/v1/posts/{post['id']}/reaction", {"emoji": "🔥"})
        alice.put(f"/v1/posts/{post['id']}/save")
        alice.put(f"/v1/posts/{post['id']}/repost")
        alice.put(f"/v1/comments/{said['id']}/reaction", {"emoji": "👏"})
        reply(alice, said)
        for name, path, subject in (("post", "posts", post), ("comment", "comments", said)):
            fresh = metrics_of(alice.get(f"/v1/{path}/{subject['id']}"))
            wait_until(lambda name=name, subject=subject, fresh=fresh: (
                heard(live, f"{name}.metrics", subject["id"])[-1] == fresh
            ))  # fmt: skip
        assert all("seq" not in event for event in live.events)


def test_no_more_than_two_a_second_and_the_last_one_always(alice: Person, bob: Person) -> None:
    post = alice.post_photo("Viral")
    with bob.live() as live:
        subscribe(live, f"post:{post['id']}")
        live.drain()
        began = time.monotonic()
        for emoji in "🔥🎉👏😂😍👍" * 5:
            alice.put(f"/v1/posts/{post['id']}/reaction", {"emoji": emoji})
        alice.put(f"/v1/posts/{post['id']}/reaction", {"emoji": "✅"})
        wait_until(lambda: heard(live, "post.metrics", post["id"])[-1]["reactions"] == {"✅": 1})
        took = time.monotonic() - began
        assert len(heard(live, "post.metrics", post["id"])) <= 2 + took / 0.5
        # And nothing comes after the last.
        count = len(live.events)
        with pytest.raises(TimeoutError):
            live.receive(1.0)
        assert len(live.events) == count


def test_who_subscribes_no_more_hears_no_more(alice: Person, bob: Person) -> None:
    post, other = alice.post_photo("One"), alice.post_photo("Two")
    with bob.live() as live:
        subscribe(live, f"post:{post['id']}", f"post:{other['id']}")
        assert live.act("unsubscribe", {"topics": [f"post:{post['id']}"]})["data"] == {
            "topics": [f"post:{other['id']}"]
        }
        before = heard(live, "post.metrics", post["id"])
        for one in (post, other):
            alice.put(f"/v1/posts/{one['id']}/reaction", {"emoji": "🔥"})
        wait_until(lambda: heard(live, "post.metrics", other["id"])[-1]["reactions"] == {"🔥": 1})
        assert heard(live, "post.metrics", post["id"]) == before


def test_two_instances_and_a_resume(stack: Stack, alice: Person, bob: Person, person: Callable[[], Person]) -> None:
    post = alice.post_photo("Everywhere")
    with instance(stack) as second, bob.live() as here, person().live(second.url) as there:
        for live in (here, there):
            subscribe(live, f"post:{post['id']}")
            assert live.act("resume", {"after": 0})["ok"]
        alice.put(f"/v1/posts/{post['id']}/reaction", {"emoji": "🔥"})
        for live in (here, there):
            wait_until(lambda live=live: heard(live, "post.metrics", post["id"])[-1]["reactions"] == {"🔥": 1})


def test_what_is_wrong_with_topics_is_named_and_changes_nothing(alice: Person, bob: Person) -> None:
    post, hidden = alice.post_photo("Here"), bob.post_photo("Hidden")
    bob.put(f"/v1/users/{alice.username}/block")
    topics = [f"post:{post['id']}", "post:x", "story:0000000000000", "post:0000000000000", f"post:{hidden['id']}"]

    def faults(topics: list[Any]) -> list[tuple[str, str]]:
        errors = live.act("subscribe", {"topics": topics})["error"]["errors"]
        return [(error["field"], error["code"]) for error in errors]

    with alice.live() as live:
        assert faults(topics) == [("topics[1]", "unknown_topic"), ("topics[2]", "unknown_topic")]
        assert faults([topics[0], *topics[3:]]) == [("topics[1]", "not_found"), ("topics[2]", "not_found")]
        assert faults([]) == [("topics", "invalid")]
        assert faults([topics[0], 7]) == [("topics[1]", "wrong_type")]
        assert live.act("unsubscribe", {"topics": [topics[0]]})["data"] == {"topics": []}
        assert faults([f"post:{n:013d}" for n in range(101)]) == [("topics", "invalid")]
        alice.put(f"/v1/posts/{post['id']}/reaction", {"emoji": "🔥"})
        live.drain()
        assert [event for event in live.events if event["event"] == "post.metrics"] == []


def test_a_socket_has_a_hundred_topics_at_most(alice: Person, bob: Person) -> None:
    posts = [alice.post_photo("Many", seed=n)["id"] for n in range(3)]
    with bob.live() as live:
        comments = [comment(alice, {"id": posts[0]})["id"] for _ in range(98)]
        subscribe(live, *[f"comment:{one}" for one in comments], f"post:{posts[0]}", f"post:{posts[1]}")
        refused = live.act("subscribe", {"topics": [f"post:{posts[0]}", f"post:{posts[2]}"]})
        assert refused["error"]["errors"][0]["code"] == "too_many"
        assert len(subscribe(live, f"post:{posts[0]}")["topics"]) == 100
        wait_until(lambda: len(heard(live, "post.metrics", posts[0])) == 2)


def test_who_subscribes_again_is_told_again_how_it_is(stack: Stack, alice: Person, bob: Person) -> None:
    post = alice.post_photo("Once more")
    said = comment(alice, post)
    wait_until_heard(stack)
    topics = [f"post:{post['id']}", f"comment:{said['id']}"]
    with bob.live() as live:
        for times in (1, 2, 3):
            assert subscribe(live, *topics, *topics) == {"topics": sorted(topics)}
            for name, path, subject in (("post", "posts", post), ("comment", "comments", said)):
                told = heard(live, f"{name}.metrics", subject["id"])
                assert told == [metrics_of(alice.get(f"/v1/{path}/{subject['id']}"))] * times
        # It is one subscription, told once, and ended once.
        alice.put(f"/v1/posts/{post['id']}/reaction", {"emoji": "🔥"})
        wait_until(lambda: heard(live, "post.metrics", post["id"])[-1]["reactions"] == {"🔥": 1})
        assert len(heard(live, "post.metrics", post["id"])) == 4
        assert live.act("unsubscribe", {"topics": topics})["data"] == {"topics": []}
        alice.put(f"/v1/posts/{post['id']}/save")
        wait_until_heard(stack)
        assert len(heard(live, "post.metrics", post["id"])) == 4
        # With a fault in one of them nothing begins; what is there goes on.
        subscribe(live, topics[0])
        refused = live.act("subscribe", {"topics": [*topics, "post:0000000000000"]})
        assert [one["field"] for one in refused["error"]["errors"]] == ["topics[2]"]
        assert live.act("unsubscribe", {"topics": topics[1:]})["data"] == {"topics": topics[:1]}


def test_while_it_is_counted_nothing_older_is_told_after_what_is_newer(
    stack: Stack, alice: Person, bob: Person, person: Callable[[], Person]
) -> None:
    post = alice.post_photo("Busy")
    others = [person() for _ in range(4)]
    name = f"post:{post['id']}"

    def counted(live: Live) -> list[int]:
        return [event["data"]["counts"]["comments"] for event in live.events if event["event"] == "post.metrics"]

    with ThreadPoolExecutor(len(others)) as threads, instance(stack) as second, ExitStack() as opened:
        lives = [opened.enter_context(bob.live()), opened.enter_context(bob.live(second.url))]
        said = [threads.submit(comment, one, post) for one in others * 15]
        for live in lives:
            subscribe(live, name)
        while len(lives) < 40 and not all(one.done() for one in said):
            # One that begins, beside those that have long subscribed.
            lives.append(opened.enter_context(bob.live(second.url)))
            for _ in range(20):
                subscribe(lives[-1], name)
        assert [one.result()["post_id"] for one in said] == [post["id"]] * len(said)
        for live in lives:
            while counted(live)[-1] != len(said):
                live.receive()
            live.drain()
            assert counted(live) == sorted(counted(live))


class Count(msgspec.Struct):
    count: int


WAITING = db.Statement(
    "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = CAST(CAST(:named AS text) AS regclass)", Count
)


def somebody_waits_for(table: str) -> bool:
    with db.connection() as conn:
        return WAITING.one(conn, named=table).count > 0


@pytest.mark.parametrize("how", ["first", "besides", "again"])
def test_what_is_counted_while_one_looks_is_told(stack: Stack, alice: Person, bob: Person, how: str) -> None:
    post = alice.post_photo("Now")
    said = comment(alice, post)
    topics = [f"post:{post['id']}", f"comment:{said['id']}"]
    wait_until_heard(stack)
    with bob.live() as live, alice.live() as other, ThreadPoolExecutor(1) as threads:
        if how != "first":
            subscribe(live if how == "again" else other, *topics)
        # Subscribing has seen the post, and waits to see the comment.
        cache.run_sync(("DEL", key(ids.decode(said["id"]))))
        with db.transaction() as conn:
            conn.command("LOCK TABLE comments IN ACCESS EXCLUSIVE MODE")
            subscribed = threads.submit(subscribe, live, *topics)
            wait_until(lambda: somebody_waits_for("comments"))
            alice.put(f"/v1/posts/{post['id']}/save")
            wait_until_heard(stack)
        assert subscribed.result() == {"topics": sorted(topics)}
        told = [one["counts"]["saves"] for one in heard(live, "post.metrics", post["id"])]
        assert told == {"first": [0, 1], "besides": [1], "again": [0, 1, 1]}[how]


def test_who_subscribes_again_to_what_they_may_see_no_more_is_refused(alice: Person, bob: Person) -> None:
    post, other = alice.post_photo("Gone soon"), alice.post_photo("Here")
    topics = [f"post:{other['id']}", f"post:{post['id']}"]
    with bob.live() as live:
        subscribe(live, *topics)
        alice.delete(f"/v1/posts/{post['id']}")
        refused = live.act("subscribe", {"topics": topics})
        assert [(one["field"], one["code"]) for one in refused["error"]["errors"]] == [("topics[1]", "not_found")]
        wait_until(lambda: subscribe(live, topics[0]) == {"topics": topics[:1]})


@pytest.mark.parametrize("how", ["blocked", "blocks", "deleted", "post_deleted"])
def test_a_subscription_ends_with_what_may_be_seen(
    alice: Person, bob: Person, person: Callable[[], Person], how: str
) -> None:
    post = alice.post_photo("For some")
    said = comment(alice, post)
    topics = [f"comment:{said['id']}"] if how == "deleted" else [f"post:{post['id']}", f"comment:{said['id']}"]
    carol = person()
    with bob.live() as live, carol.live() as other:
        for one in (live, other):
            subscribe(one, *topics)
        if how == "blocked":
            alice.put(f"/v1/users/{bob.username}/block")
        elif how == "blocks":
            bob.put(f"/v1/users/{alice.username}/block")
        elif how == "deleted":
            alice.delete(f"/v1/comments/{said['id']}")
        else:
            alice.delete(f"/v1/posts/{post['id']}")
        nothing = {"topics": ["post:0000000000000"]}
        wait_until(lambda: live.act("unsubscribe", nothing)["data"] == {"topics": []})
        gone = "deleted" in how
        wait_until(lambda: other.act("unsubscribe", nothing)["data"] == {"topics": [] if gone else sorted(topics)})
        if not gone:
            before = heard(live, "post.metrics", post["id"])
            carol.put(f"/v1/posts/{post['id']}/reaction", {"emoji": "🔥"})
            wait_until(lambda: heard(other, "post.metrics", post["id"])[-1]["reactions"] == {"🔥": 1})
            assert heard(live, "post.metrics", post["id"]) == before


def test_what_came_while_redis_was_not_linked_is_told_after(alice: Person, bob: Person) -> None:
    post = alice.post_photo("Cut off")
    with bob.live() as live:
        subscribe(live, f"post:{post['id']}")
        for emoji in "🔥🎉👏😂":
            cache.run_sync(("CLIENT", "KILL", "TYPE", "PUBSUB"))
            alice.put(f"/v1/posts/{post['id']}/reaction", {"emoji": emoji})
            wait_until(lambda emoji=emoji: heard(live, "post.metrics", post["id"])[-1]["reactions"] == {emoji: 1})
