"""Talking below a post: comments, replies, edits, deletions, and who hears of them."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from infra.local.stack import Stack
from shared.kernel import ids
from tests.client import Format, Person, Visitor, decoded, sign_up, trips, wait_until
from tests.comments.thread import (
    block,
    comment,
    comments,
    delete,
    edit,
    id_of,
    read,
    replies,
    reply,
    status,
    tombstone,
    upload_attachment,
)
from tests.profiles.people import leave


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_a_conversation(stack: Stack, format: Format) -> None:
    alice, bob, carol = (sign_up(stack, format=format) for _ in range(3))
    visitor = Visitor(stack.api, format=format)
    post = alice.post_photo("Look!")
    assert comments(bob, post) == []

    first = comment(bob, post, f"  Lovely, @{carol.username}; @nobody.at.all  ")
    assert first == {
        "id": first["id"],
        "post_id": post["id"],
        "parent_id": None,
        "author": bob.get(f"/v1/users/{bob.username}")["user"],
        "text": f"Lovely, @{carol.username}; @nobody.at.all",
        "attachment": None,
        "mentions": [carol.username],
        "created_at": first["created_at"],
        "edited_at": None,
        "deleted_at": None,
        "counts": {"reactions": 0, "replies": 0},
        "reactions": {},
        "viewer": {"reaction": None},
    }
    answer = reply(carol, first, "Isn't it?")
    assert (answer["post_id"], answer["parent_id"]) == (post["id"], first["id"])
    second = comment(alice, post, "Thank you both")

    first = read(alice, first)
    assert first["counts"]["replies"] == 1
    assert comments(alice, post) == [second, first]
    assert replies(bob, first) == [answer]
    assert comments(visitor, post) == [second | {"viewer": None}, first | {"viewer": None}]
    assert read(visitor, answer) == answer | {"viewer": None}
    assert visitor.ask("POST", f"/v1/posts/{post['id']}/comments", {"text": "Me too"}).status_code == 401

    edited = edit(carol, answer, f"It is, @{bob.username}")
    assert edited["edited_at"] > answer["created_at"]
    assert edited == answer | {
        "text": f"It is, @{bob.username}",
        "mentions": [bob.username],
        "edited_at": edited["edited_at"],
    }
    assert read(bob, answer) == edited
    assert alice.get("/v1/me/commented")["items"] == bob.get("/v1/me/commented")["items"]


def test_posts_commented_on_by_the_newest_comment(alice: Person, bob: Person) -> None:
    posts = [alice.post_photo(f"Number {n}", seed=n) for n in range(3)]

    def listed() -> list[str]:
        return [post["description"][-1] for post in bob.items("/v1/me/commented", limit=2)]

    assert listed() == []
    for post in posts:
        comment(bob, post)
    assert listed() == ["2", "1", "0"]
    again = comment(bob, posts[0])
    assert listed() == ["0", "2", "1"]
    delete(bob, again)
    assert listed() == ["2", "1", "0"]
    reply(bob, comment(alice, posts[1]))
    assert listed() == ["1", "2", "0"]
    alice.delete(f"/v1/posts/{posts[1]['id']}")
    assert listed() == ["2", "0"]
    block(alice, bob)
    assert listed() == []


def test_deleting_leaves_a_tombstone_while_it_has_replies(alice: Person, bob: Person, person: Any) -> None:
    carol = person()
    post = alice.post_photo("Talk")
    top = comment(bob, post, f"@{carol.username} said")
    middle = reply(carol, top)
    last = reply(bob, middle)

    assert status(carol, top, "DELETE") == 403
    delete(bob, top)
    shown = read(carol, top)
    assert shown == tombstone(top, shown)
    assert shown["counts"]["replies"] == 1
    assert comments(carol, post) == [shown]
    assert [one["id"] for one in replies(carol, shown)] == [middle["id"]]
    assert carol.ask("POST", f"/v1/comments/{top['id']}/replies", {"text": "?"}).json()["code"] == "comment_deleted"
    assert status(carol, top, "POST", "/replies") == 409
    assert status(bob, top, "DELETE") == status(bob, top, "PATCH") == 409

    # The post's owner may delete what others said.
    delete(alice, middle)
    assert replies(bob, shown) == [read(bob, middle)]
    assert read(bob, middle)["author"] is None

    # The last that was shown takes both tombstones with it.
    delete(bob, last)
    assert [status(bob, one) for one in (top, middle, last)] == [404] * 3
    assert comments(bob, post) == []


def test_attachments_are_shown_and_deleted_with_their_comment(alice: Person, bob: Person) -> None:
    post = alice.post_photo("Show me")
    photo = upload_attachment(bob) | {"alt_text": "A cat"}
    made = bob.post(f"/v1/posts/{post['id']}/comments", {"text": " ", "attachment": photo})
    shown = made["attachment"]
    assert made["text"] == ""
    assert (shown["type"], shown["content_type"], shown["alt_text"]) == ("photo", "image/jpeg", "A cat")
    assert read(alice, made) == made
    assert alice.http.get(shown["url"]).status_code == 200
    assert alice.http.get(shown["placeholder_url"]).status_code == 200
    reply(alice, made, "Nice cat")

    delete(bob, made)
    assert read(alice, made)["attachment"] is None
    wait_until(lambda: alice.http.get(shown["url"]).status_code == 404)


def test_everything_below_a_post_goes_with_it(alice: Person, bob: Person, visitor: Visitor) -> None:
    post = alice.post_photo("Soon gone")
    top = comment(bob, post)
    below = reply(alice, top)
    alice.delete(f"/v1/posts/{post['id']}")
    for reader in (alice, bob, visitor):
        assert [status(reader, one) for one in (top, below)] == [404, 404]
        assert status(reader, top, "GET", "/replies") == 404
        assert reader.ask("GET", f"/v1/posts/{post['id']}/comments").status_code == 404
    assert bob.ask("POST", f"/v1/posts/{post['id']}/comments", {"text": "x"}).status_code == 404
    assert [
        status(bob, top, method, tail) for method, tail in (("POST", "/replies"), ("PATCH", ""), ("DELETE", ""))
    ] == [
        404,
        404,
        404,
    ]


@pytest.mark.parametrize("by_reader", [True, False])
def test_a_block_hides_what_the_other_says(person: Callable[[], Person], by_reader: bool) -> None:
    owner, author, reader = person(), person(), person()
    post = owner.post_photo("Public")
    hidden = [comment(author, post, f"Hidden {n}") for n in range(12)]
    seen = comment(owner, post, "Seen")
    below = reply(owner, hidden[0], "Under what is hidden")
    block(*((reader, author) if by_reader else (author, reader)))

    page = reader.get(f"/v1/posts/{post['id']}/comments", limit=1)
    assert [one["id"] for one in page["items"]] == [seen["id"]]
    assert [one["id"] for one in comments(reader, post, 2)] == [seen["id"]]
    assert status(reader, hidden[0]) == status(reader, hidden[0], "GET", "/replies") == 404
    assert status(reader, hidden[0], "POST", "/replies") == 404
    assert status(reader, hidden[0], "DELETE") == status(reader, hidden[0], "PATCH") == 404
    assert status(reader, below) == 200
    assert len(comments(owner, post)) == 13
    # Nor do the two reach each other by mentions.
    assert comment(reader, post, f"@{author.username} @{owner.username}")["mentions"] == [owner.username]


def test_a_block_between_reader_and_owner_hides_all(alice: Person, bob: Person, person: Any) -> None:
    carol = person()
    post = alice.post_photo("Mine")
    by_bob, by_carol = comment(bob, post), comment(carol, post)
    block(alice, bob)
    for one in (by_bob, by_carol):
        assert [status(bob, one, *how) for how in (("GET",), ("GET", "/replies"), ("POST", "/replies"))] == [404] * 3
    assert status(bob, by_carol, "DELETE") == status(bob, by_bob, "PATCH") == 404
    assert bob.ask("GET", f"/v1/posts/{post['id']}/comments").status_code == 404
    assert bob.ask("POST", f"/v1/posts/{post['id']}/comments", {"text": "x"}).status_code == 404
    assert [one["id"] for one in comments(alice, post)] == [by_carol["id"]]
    assert len(comments(carol, post)) == 2
    block(alice, bob, undo=True)
    assert status(bob, by_carol) == 200


def test_who_is_gone_says_nothing(alice: Person, bob: Person, visitor: Visitor) -> None:
    post = alice.post_photo("Quiet")
    gone, stays = comment(bob, post), comment(alice, post)
    bob_id = id_of(bob)
    leave(bob_id, signed_out=False)
    assert bob.ask("POST", f"/v1/posts/{post['id']}/comments", {"text": "x"}).json()["code"] == "account_gone"
    leave(bob_id)
    for reader in (alice, visitor):
        assert [one["id"] for one in comments(reader, post)] == [stays["id"]]
        assert status(reader, gone) == 404
    assert status(alice, gone, "POST", "/replies") == 404


def test_replies_to_any_depth(alice: Person, bob: Person) -> None:
    post = alice.post_photo("Deep")
    chain = [comment(alice, post)]
    while len(chain) <= 50:
        chain.append(reply((alice, bob)[len(chain) % 2], chain[-1], f"Level {len(chain)}"))
    for parent, child in itertools.pairwise(chain):
        assert [one["id"] for one in replies(bob, parent)] == [child["id"]]
    for one in chain[:-1]:
        delete(alice, one)
    assert all(read(bob, one)["deleted_at"] for one in chain[:-1])
    delete(alice, chain[-1])
    assert {status(bob, one) for one in chain} == {404}
    assert comments(bob, post) == []


class TestNotifications:
    def told(self, person: Person) -> list[tuple[str, str, list[str]]]:
        return [
            (one["type"], one["subject"]["id"], [actor["username"] for actor in one["actors"]])
            for one in person.get("/v1/notifications", limit=100)["items"]
            if one["type"] != "follow"
        ]

    def test_each_is_told_once_of_what_concerns_them_most(self, alice: Person, bob: Person, person: Any) -> None:
        carol = person()
        everyone = f"@{alice.username} @{bob.username} @{carol.username}"
        post = alice.post_photo("News")
        top = comment(bob, post, everyone)
        wait_until(lambda: self.told(carol) == [("mention", top["id"], [bob.username])])
        wait_until(lambda: self.told(alice) == [("comment", post["id"], [bob.username])])

        answer = reply(carol, top, everyone)
        wait_until(lambda: self.told(bob) == [("reply", top["id"], [carol.username])])
        wait_until(lambda: self.told(alice) == [("comment", post["id"], [carol.username, bob.username])])
        assert [one[1] for one in self.told(carol)] == [top["id"]]

        delete(carol, answer)
        wait_until(lambda: self.told(bob) == [])
        wait_until(lambda: self.told(alice) == [("comment", post["id"], [bob.username])])
        delete(bob, top)
        wait_until(lambda: self.told(alice) == self.told(carol) == [])

    def test_a_reaction_is_told_to_who_said_it(self, alice: Person, bob: Person) -> None:
        made = comment(bob, alice.post_photo("React"))
        alice.put(f"/v1/comments/{made['id']}/reaction", {"emoji": "👍"})
        wait_until(lambda: self.told(bob) == [("reaction", made["id"], [alice.username])])
        assert bob.get("/v1/notifications")["items"][0]["subject"]["type"] == "comment"
        alice.delete(f"/v1/comments/{made['id']}/reaction")
        wait_until(lambda: self.told(bob) == [])

    def test_replying_to_the_owner_is_told_as_a_reply_alone(self, alice: Person, bob: Person) -> None:
        post = alice.post_photo("Mine")
        top = comment(alice, post)
        reply(bob, top, f"@{alice.username}")
        wait_until(lambda: self.told(alice) == [("reply", top["id"], [bob.username])])

    def test_deleting_one_of_two_takes_nothing_back(self, alice: Person, bob: Person) -> None:
        post = alice.post_photo("Twice")

        def told(made: dict[str, Any], unread: bool) -> bool:
            """Whether this comment is the one that is told."""
            found = alice.get("/v1/notifications")["items"]
            shown = [(one["type"], one["subject"]["id"], one["actor_count"], one["at"], one["unread"]) for one in found]
            return shown == [("comment", post["id"], 1, ids.made_at(ids.decode(made["id"])), unread)]

        first, second = comment(bob, post), comment(bob, post)
        wait_until(lambda: told(second, True))
        alice.put("/v1/notifications/read")
        delete(bob, second)
        wait_until(lambda: told(first, False))

    def test_an_edit_tells_those_newly_mentioned_and_takes_back_the_others(
        self, alice: Person, bob: Person, person: Any
    ) -> None:
        carol, dave = person(), person()
        post = alice.post_photo("Edit")
        made = comment(bob, post, f"@{carol.username}")
        wait_until(lambda: self.told(carol))
        alice.put("/v1/notifications/read")
        edit(bob, made, f"@{dave.username} @{alice.username}")
        wait_until(lambda: self.told(dave) == [("mention", made["id"], [bob.username])])
        wait_until(lambda: self.told(carol) == [])
        assert [one["unread"] for one in alice.get("/v1/notifications")["items"]] == [False]
        edit(bob, made, f"@{carol.username}")
        wait_until(lambda: self.told(carol) == [("mention", made["id"], [bob.username])])
        wait_until(lambda: self.told(dave) == [])


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_reacting_to_comments(stack: Stack, format: Format) -> None:
    alice, bob = (sign_up(stack, format=format) for _ in range(2))
    post = alice.post_photo("React")
    made, other = comment(alice, post), comment(alice, post)
    path = f"/v1/comments/{made['id']}/reaction"
    answer = bob.ask("PUT", path, {"emoji": "❤"})
    assert (answer.status_code, trips(answer, "postgres")) == (200, 1)
    reacted = made | {"counts": {"reactions": 1, "replies": 0}, "reactions": {"❤️": 1}, "viewer": {"reaction": "❤️"}}
    assert decoded(answer) == reacted == read(bob, made)
    assert comments(bob, post) == [other, reacted]
    assert comments(alice, post) == [other, reacted | {"viewer": {"reaction": None}}]
    assert bob.put(path, {"emoji": "❤️"}) == reacted
    both = alice.put(path, {"emoji": "😂"})
    assert both["reactions"] == {"❤️": 1, "😂": 1}
    assert bob.put(path, {"emoji": "😂"})["reactions"] == {"😂": 2}
    edited = edit(alice, made, "Edited")
    assert edited == read(alice, made)
    assert edited["viewer"] == {"reaction": "😂"}
    assert bob.ask("PUT", path, {"emoji": "no"}).status_code == 422
    assert who_reacted(bob, made) == [(alice.username, "😂"), (bob.username, "😂")]
    assert [one["emoji"] for one in bob.items(f"{path}s", limit=1)] == ["😂", "😂"]
    assert bob.get(f"{path}s", emoji="❤️")["items"] == []
    assert bob.delete(path) == bob.delete(path) == read(bob, made)
    assert who_reacted(bob, made) == [(alice.username, "😂")]
    assert read(bob, made)["reactions"] == {"😂": 1}

    reply(bob, made)
    delete(alice, made)
    for reader in (alice, bob):
        shown = read(reader, made)
        assert (shown["counts"]["reactions"], shown["reactions"], shown["viewer"]) == (0, {}, {"reaction": None})
        assert status(reader, made, "DELETE", "/reaction") == 409
        assert reader.ask("PUT", path, {"emoji": "😂"}).status_code == 409
        assert reader.ask("GET", f"{path}s").status_code == 404
    block(alice, bob)
    assert bob.ask("PUT", f"/v1/comments/{other['id']}/reaction", {"emoji": "😂"}).status_code == 404
    assert bob.ask("GET", f"/v1/comments/{other['id']}/reactions").status_code == 404


def who_reacted(reader: Person, made: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["user"]["username"], one["emoji"]) for one in reader.items(f"/v1/comments/{made['id']}/reactions")]


def test_who_reacted_is_shown_to_those_who_may_see_them(alice: Person, bob: Person, person: Any) -> None:
    carol = person()
    made = comment(alice, alice.post_photo("Who"))
    for one in (alice, bob, carol):
        one.put(f"/v1/comments/{made['id']}/reaction", {"emoji": "👍"})
    assert who_reacted(bob, made) == [(carol.username, "👍"), (bob.username, "👍"), (alice.username, "👍")]
    block(carol, bob)
    assert who_reacted(bob, made) == [(bob.username, "👍"), (alice.username, "👍")]

    def warm() -> bool:
        answer = bob.ask("GET", f"/v1/comments/{made['id']}/reactions")
        return (trips(answer, "redis"), trips(answer, "postgres")) == (2, 0)

    # Once nothing of what was just done is still on its way to Redis.
    wait_until(warm)
