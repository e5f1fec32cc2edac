"""What someone did with the posts and comments of others goes with their account, and the counts stay true."""

from collections.abc import Callable
from typing import Any

import msgspec

from infra.local.stack import Stack
from shared.kernel import db
from tests.accounts.receipts import There
from tests.client import PASSWORD, Live, Person, sign_up, wait_until
from tests.feed.merging import is_away
from tests.journeys.test_account_deletion import ended, id_of


class Filed(msgspec.Struct, frozen=True):
    details: int
    reports: int


LEFT = db.Statement(
    """SELECT (SELECT count(*) FROM engagements
                WHERE user_id = :user_id AND num_nonnulls(reaction_id, save_id, repost_id) > 0)
            + (SELECT count(*) FROM mentions WHERE user_id = :user_id)
            + (SELECT count(*) FROM comments WHERE author_id = :user_id AND (deleted_at IS NULL OR text <> ''))
            + (SELECT count(*) FROM engagements e JOIN posts p ON p.id = e.subject_id WHERE p.author_id = :user_id)
            + (SELECT count(*) FROM mentions m JOIN posts p ON p.id = m.post_id WHERE p.author_id = :user_id)""",
    There,
)

DETAILS = db.Statement("SELECT count(detail), count(*) FROM reports WHERE reporter_id = :user_id", Filed)


def gone(live: Live, count: int) -> list[Any]:
    """The posts that were told live to be gone, each with who had reposted it, once there are so many of them."""
    while len(told := [event["data"] for event in live.events if event["event"] == "feed.post_deleted"]) < count:
        live.receive()
    return [(one["id"], one.get("reposted_by", {}).get("username")) for one in told]


def test_reactions_reposts_saves_and_comments_go_along(stack: Stack, alice: Person, bob: Person) -> None:
    leaver = sign_up(stack)
    user_id = id_of(leaver)
    post = bob.post_photo(f"With @{leaver.username}")
    own = leaver.post_photo(f"With @{bob.username}")
    alice.put(f"/v1/posts/{own['id']}/reaction", {"emoji": "🎉"})
    for who in (alice, leaver):
        who.put(f"/v1/posts/{post['id']}/reaction", {"emoji": "👍"})
        who.put(f"/v1/posts/{post['id']}/repost")
        who.put(f"/v1/posts/{post['id']}/save")
    gone = leaver.post(f"/v1/posts/{post['id']}/comments", {"text": "Taken back"})
    leaver.delete(f"/v1/comments/{gone['id']}")
    comment = leaver.post(f"/v1/posts/{post['id']}/comments", {"text": "First"})
    reply = alice.post(f"/v1/comments/{comment['id']}/replies", {"text": "Second"})
    deepest = leaver.post(f"/v1/comments/{reply['id']}/replies", {"text": "Third"})
    leaver.put(f"/v1/comments/{reply['id']}/reaction", {"emoji": "👍"})
    assert bob.get(f"/v1/posts/{post['id']}")["counts"] == {"reactions": 2, "comments": 3, "reposts": 2, "saves": 2}

    assert leaver.ask("DELETE", "/v1/me", {"password": PASSWORD}).status_code == 204
    told = ended(user_id)
    assert told.counts == told.counts | {
        "comments": 2,
        "comments deleted before": 1,
        "engagements with posts": 1,
        "engagements with comments": 1,
        "engagements of others": 1,
        "mentions": 1,
        "mentions in posts": 1,
    }
    with db.connection() as conn:
        assert LEFT.one(conn, user_id=user_id).count == 0

    counts = {"reactions": 1, "comments": 1, "reposts": 1, "saves": 1}
    for reader in (alice, bob):
        wait_until(lambda reader=reader: reader.get(f"/v1/posts/{post['id']}")["counts"] == counts)
    assert bob.get(f"/v1/posts/{post['id']}")["reactions"] == {"👍": 1}
    wait_until(lambda: alice.get(f"/v1/comments/{reply['id']}")["counts"] == {"reactions": 0, "replies": 0})
    assert alice.ask("GET", f"/v1/comments/{deepest['id']}").status_code == 404
    (first,) = alice.get(f"/v1/posts/{post['id']}/comments")["items"]
    assert (first["id"], first["text"], first["author"]) == (comment["id"], None, None)
    assert alice.get(f"/v1/posts/{post['id']}/reactions")["items"][0]["user"]["username"] == alice.username


def test_what_was_said_in_a_report_goes_and_the_report_stays(stack: Stack, bob: Person) -> None:
    leaver = sign_up(stack)
    user_id = id_of(leaver)
    body = {"subject": {"type": "user", "id": bob.username}, "reason": "spam", "detail": "He writes to me every day"}
    leaver.post("/v1/reports", body)
    assert leaver.ask("DELETE", "/v1/me", {"password": PASSWORD}).status_code == 204
    assert ended(user_id).counts["reports filed"] == 1
    with db.connection() as conn:
        assert DETAILS.one(conn, user_id=user_id) == Filed(0, 1)


def test_who_has_it_on_screen_is_told_that_it_is_gone(person: Callable[[], Person]) -> None:
    leaver, follower, reposter, fan, muting = (person() for _ in range(5))
    for one in (follower, reposter, muting):
        one.follow(leaver.username)
    fan.follow(reposter.username)
    muting.put(f"/v1/users/{leaver.username}/mute")
    posts = [leaver.post_photo(str(number), seed=number)["id"] for number in range(3)]
    reposter.put(f"/v1/posts/{posts[1]}/repost")
    others = fan.post_photo("Another's")["id"]
    leaver.put(f"/v1/posts/{others}/repost")
    wait_until(lambda: fan.get("/v1/feed")["items"])
    wait_until(lambda: len(follower.get("/v1/feed")["items"]) == len(posts) + 1)
    with follower.live() as live, fan.live() as indirectly, muting.live() as never:
        assert leaver.ask("DELETE", "/v1/me", {"password": PASSWORD}).status_code == 204
        assert set(gone(live, 4)) == {*((post, None) for post in posts), (others, leaver.username)}
        assert gone(indirectly, 1) == [(posts[1], reposter.username)]
        assert never.drain() == []
    assert follower.get("/v1/feed")["items"] == []
    assert [post["id"] for post in fan.get("/v1/feed")["items"]] == [others]


def test_of_an_account_that_is_deleted_only_who_is_here_is_told_each_post(person: Callable[[], Person]) -> None:
    leaver, here, away = (person() for _ in range(3))
    for one in (here, away):
        one.follow(leaver.username)
    with away.live() as live:
        post = leaver.post_photo("Hello")["id"]
        last = live.event("feed.post_created")
    wait_until(lambda: is_away(away))
    with here.live() as live:
        assert leaver.ask("DELETE", "/v1/me", {"password": PASSWORD}).status_code == 204
        assert gone(live, 1) == [(post, None)]
    with away.live() as live:
        assert live.act("resume", {"after": last["seq"]})["data"]["resync"] is True
        assert [event["event"] for event in live.drain()] == ["resync"]
