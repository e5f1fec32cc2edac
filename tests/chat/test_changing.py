"""Editing, deleting and reacting: by whom, of what, and what is left."""

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from tests.chat.talk import chats, history, react, text, words_of, write
from tests.client import Person, trips

Problem = Callable[[httpx.Response, int, str], dict[str, Any]]


def edit(person: Person, message: dict[str, Any], content: dict[str, Any]) -> httpx.Response:
    return person.ask("PATCH", f"/v1/messages/{message['id']}", {"content": content})


def delete(person: Person, message: dict[str, Any], whom: str = "") -> httpx.Response:
    return person.ask("DELETE", f"/v1/messages/{message['id']}" + (f"?for={whom}" if whom else ""))


def test_only_who_sent_it_edits_it_or_deletes_it_for_everyone(
    alice: Person, bob: Person, person: Callable[[], Person], problem: Problem
) -> None:
    said = write(alice, bob, "Mine")
    problem(edit(bob, said, text("Yours")), 403, "not_sender")
    problem(delete(bob, said, "everyone"), 403, "not_sender")
    carol = person()
    for answer in (
        edit(carol, said, text("Ours")),
        delete(carol, said, "everyone"),
        delete(carol, said),
        carol.ask("PUT", f"/v1/messages/{said['id']}/reaction", {"emoji": "👍"}),
        carol.ask("DELETE", f"/v1/messages/{said['id']}/reaction"),
    ):
        problem(answer, 404, "message_not_found")
    assert history(alice, bob) == [said]


def test_an_edit_is_of_the_same_type_and_has_something_to_see(alice: Person, bob: Person, problem: Problem) -> None:
    said = write(alice, bob, "As it was")

    def told(content: Any) -> dict[str, str]:
        return {
            fault["field"]: fault["code"] for fault in problem(edit(alice, said, content), 422, "invalid")["errors"]
        }

    assert told({"type": "photo", "caption": "x"}) == {"content.type": "wrong_type"}
    assert told(text(" ")) == {"content.text": "blank"}
    assert told(text("x" * 4001)) == {"content.text": "wrong_length"}
    assert told({"type": "text", "text": 1, "x": 1}) == {"content.text": "wrong_type", "content.x": "unknown_field"}
    assert told({"type": "voice"}) == {"content": "invalid"}
    assert history(alice, bob) == [said]
    assert edit(alice, said, text("  Better ")).json()["content"] == text("Better")
    assert chats(alice)[0]["last_message"]["content"] == text("Better")


def test_each_edit_is_later_than_the_one_before(alice: Person, bob: Person) -> None:
    said = write(alice, bob, "0")
    times = [edit(alice, said, text(str(number))).json()["edited_at"] for number in range(5)]
    assert times == sorted(set(times))
    deleted = (delete(alice, said, "everyone").status_code, history(bob, alice)[0]["deleted_at"])
    assert deleted[0] == 204
    assert deleted[1] > times[-1]


def test_nothing_is_done_with_a_tombstone_but_hiding_it(alice: Person, bob: Person, problem: Problem) -> None:
    said, other = write(alice, bob, "Gone"), write(alice, bob, "There")
    react(bob, said, "👍")
    assert delete(alice, said, "everyone").status_code == 204
    problem(delete(alice, said, "everyone"), 409, "message_deleted")
    problem(delete(bob, said, "everyone"), 409, "message_deleted")
    problem(edit(alice, said, text("Back")), 409, "message_deleted")
    problem(bob.ask("PUT", f"/v1/messages/{said['id']}/reaction", {"emoji": "👍"}), 409, "message_deleted")
    problem(bob.ask("DELETE", f"/v1/messages/{said['id']}/reaction"), 409, "message_deleted")
    assert [(one["content"], one["reactions"]) for one in history(bob, alice)] == [(text("There"), []), (None, [])]
    assert delete(bob, said).status_code == 204
    problem(delete(bob, said), 404, "message_not_found")
    assert [one["id"] for one in history(bob, alice)] == [other["id"]]
    assert [one["id"] for one in history(alice, bob)] == [other["id"], said["id"]]


def test_what_one_deleted_for_themselves_they_touch_no_more(alice: Person, bob: Person, problem: Problem) -> None:
    said = write(alice, bob, "Seen")
    assert delete(alice, said, "me").status_code == 204
    problem(edit(alice, said, text("Unseen")), 404, "message_not_found")
    problem(alice.ask("PUT", f"/v1/messages/{said['id']}/reaction", {"emoji": "👍"}), 404, "message_not_found")
    problem(delete(alice, said, "everyone"), 404, "message_not_found")
    assert chats(alice)[0]["last_message"] is None
    assert react(bob, said, "👍")["reactions"]
    bob.delete(f"/v1/chats/{alice.username}")
    problem(bob.ask("DELETE", f"/v1/messages/{said['id']}/reaction"), 404, "message_not_found")
    problem(alice.ask("DELETE", f"/v1/messages/{said['id']}?for=nobody"), 422, "invalid")


def test_each_of_the_two_has_one_reaction(alice: Person, bob: Person, problem: Problem) -> None:
    said = write(alice, bob, "React!")
    react(bob, said, "👍")
    both = react(alice, said, "🦊")
    assert [(one["user"]["username"], one["emoji"]) for one in both["reactions"]] == [
        (alice.username, "🦊"),
        (bob.username, "👍"),
    ]
    assert react(alice, said, "🦊") == both
    assert [one["emoji"] for one in bob.delete(f"/v1/messages/{said['id']}/reaction")["reactions"]] == ["🦊"]
    assert [one["emoji"] for one in bob.delete(f"/v1/messages/{said['id']}/reaction")["reactions"]] == ["🦊"]
    problem(bob.ask("PUT", f"/v1/messages/{said['id']}/reaction", {"emoji": "no"}), 422, "invalid")
    answer = bob.ask("PUT", f"/v1/messages/{said['id']}/reaction", {"emoji": "👍"})
    assert (trips(answer, "postgres"), trips(answer, "redis")) == (1, 2)


def test_reactions_at_once_are_all_kept(alice: Person, bob: Person) -> None:
    said = write(alice, bob, "React!")
    with ThreadPoolExecutor(4) as threads:
        for _ in range(10):
            list(threads.map(lambda pair: react(pair[0], said, pair[1]), [(alice, "🦊"), (bob, "👍")] * 2))
            assert [one["emoji"] for one in history(alice, bob)[0]["reactions"]] == ["🦊", "👍"]
            list(threads.map(lambda one: one.delete(f"/v1/messages/{said['id']}/reaction"), [alice, bob]))
            assert history(bob, alice)[0]["reactions"] == []


def test_deleting_and_editing_at_once_ends_deleted(alice: Person, bob: Person) -> None:
    with ThreadPoolExecutor(4) as threads:
        for _ in range(8):
            said = write(alice, bob, "Now")
            acts = [
                threads.submit(edit, alice, said, text("Then")),
                threads.submit(delete, alice, said, "everyone"),
                threads.submit(bob.ask, "PUT", f"/v1/messages/{said['id']}/reaction", {"emoji": "👍"}),
            ]
            assert {act.result().status_code for act in acts} <= {200, 204, 409}
            assert acts[1].result().status_code == 204
            (latest,) = (one for one in history(bob, alice) if one["id"] == said["id"])
            assert (latest["content"], latest["reactions"]) == (None, [])


def test_what_one_did_is_taken_back_also_across_a_block(alice: Person, bob: Person, problem: Problem) -> None:
    said, other = write(alice, bob, "Mine"), write(bob, alice, "Yours")
    react(alice, other, "👍")
    bob.put(f"/v1/users/{alice.username}/block")
    problem(edit(alice, said, text("Hm")), 404, "message_not_found")
    problem(alice.ask("PUT", f"/v1/messages/{other['id']}/reaction", {"emoji": "🦊"}), 404, "message_not_found")
    problem(delete(alice, other, "everyone"), 404, "message_not_found")
    for _ in range(2):
        problem(alice.ask("DELETE", f"/v1/messages/{other['id']}/reaction"), 404, "message_not_found")
    assert delete(alice, said, "everyone").status_code == 204
    problem(delete(alice, said, "everyone"), 404, "message_not_found")
    bob.delete(f"/v1/users/{alice.username}/block")
    assert [(one["content"], one["reactions"]) for one in history(bob, alice)] == [(text("Yours"), []), (None, [])]


def test_clearing_is_for_oneself_alone_and_once_is_enough(alice: Person, bob: Person) -> None:
    nobody = bob.ask("DELETE", f"/v1/chats/{alice.username}")
    assert nobody.status_code == 204
    write(alice, bob, "One")
    alice.delete(f"/v1/chats/{bob.username}")
    alice.delete(f"/v1/chats/{bob.username}")
    write(alice, bob, "Two")
    assert words_of(history(alice, bob)) == ["Two"]
    assert words_of(history(bob, alice)) == ["Two", "One"]


def test_an_unknown_chat_is_neither_accepted_nor_declined(alice: Person, bob: Person, problem: Problem) -> None:
    for act in ("accept", "decline"):
        problem(bob.ask("PUT", f"/v1/chats/{alice.username}/{act}"), 404, "chat_not_found")
        absent = bob.ask("PUT", f"/v1/chats/x{secrets.token_hex(6)}/{act}")
        problem(absent, 404, "user_not_found")
