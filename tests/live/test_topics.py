"""Topics: who subscribes to a post or comment hears how it is counted, while they may see it."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from infra.local.stack import Stack
from shared.kernel import cache
from tests.client import Format, Live, Person, sign_up, wait_until
from tests.comments.thread import comment, reply
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
