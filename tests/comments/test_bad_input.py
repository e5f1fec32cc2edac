"""What can't be said: every fault named, nothing changed."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from infra.photos import make_photo
from tests.client import Person, decoded
from tests.comments.thread import comment, comments, delete, edit, ids_of, read, reply, status, upload_attachment

Problem = Callable[[httpx.Response, int, str], dict[str, Any]]


def faults(problem: dict[str, Any]) -> dict[str, str]:
    return {fault["field"]: fault["code"] for fault in problem["errors"]}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"text": ""}, {"text": "blank"}),
        ({"text": " \n\t\u200b\u3164"}, {"text": "blank"}),
        ({"text": "x" * 2201}, {"text": "wrong_length"}),
        ({"text": "a\x00b"}, {"text": "nul_character"}),
        ({}, {"text": "missing"}),
        (
            {"text": 5, "attachment": 7, "colour": "red"},
            {"text": "wrong_type", "attachment": "wrong_type", "colour": "unknown_field"},
        ),
        (
            {"text": "x" * 2201, "attachment": {"actual": "", "width": 0, "height": 1}},
            {
                "text": "wrong_length",
                "attachment.actual": "invalid",
                "attachment.placeholder": "missing",
                "attachment.width": "invalid",
            },
        ),
    ],
)
@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_what_is_no_comment(alice: Person, problem: Problem, body: Any, expected: dict[str, str], format: Any) -> None:
    alice = alice.speaking(format)
    post = alice.post_photo("Say")
    top = comment(alice, post)
    for path in (f"/v1/posts/{post['id']}/comments", f"/v1/comments/{top['id']}/replies"):
        assert faults(problem(alice.ask("POST", path, body), 422, "invalid")) == expected
    assert comments(alice, post) == [top]


def test_length_counts_without_the_space_around(alice: Person) -> None:
    post = alice.post_photo("Long")
    made = comment(alice, post, "  " + "é" * 2200 + "\n")
    assert made["text"] == "é" * 2200
    assert edit(alice, made, "  " + "ß" * 2200 + "\n")["text"] == "ß" * 2200


def test_an_edit_to_nothing(alice: Person, bob: Person, problem: Problem) -> None:
    post = alice.post_photo("Edit")
    made = comment(alice, post)
    path = f"/v1/comments/{made['id']}"
    assert faults(problem(alice.ask("PATCH", path, {"text": " "}), 422, "invalid")) == {"text": "blank"}
    assert faults(problem(alice.ask("PATCH", path, {"text": "x" * 2201}), 422, "invalid")) == {"text": "wrong_length"}
    problem(bob.ask("PATCH", path, {"text": "Not mine"}), 403, "not_author")
    problem(bob.ask("PATCH", path, {"text": " "}), 403, "not_author")
    problem(bob.ask("DELETE", path), 403, "not_author")
    assert read(alice, made) == made
    shown = alice.post(f"/v1/posts/{post['id']}/comments", {"text": "A", "attachment": upload_attachment(alice)})
    assert edit(alice, shown, "")["text"] == ""


@pytest.mark.parametrize("comment_id", ["0" * 13, "x", "0" * 12, "Z" * 13, "z" * 13, "%00", "%F0%9F%98%80"])
def test_an_unknown_comment(alice: Person, problem: Problem, comment_id: str) -> None:
    for method, tail in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/replies"), ("POST", "/replies")):
        body = {"text": "Hm"} if method in ("POST", "PATCH") else None
        problem(alice.ask(method, f"/v1/comments/{comment_id}{tail}", body), 404, "comment_not_found")
    for method, tail, more in (("PUT", "", {"emoji": "👍"}), ("DELETE", "", None), ("GET", "s", None)):
        answer = alice.ask(method, f"/v1/comments/{comment_id}/reaction{tail}", more)
        problem(answer, 404, "comment_not_found")


def test_a_tombstone_is_read_and_nothing_is_done_with_it(
    alice: Person, bob: Person, person: Callable[[], Person], problem: Problem
) -> None:
    carol, dora = person(), person()
    top = comment(bob, alice.post_photo("Talk"))
    carol.put(f"/v1/comments/{top['id']}/reaction", {"emoji": "👍"})
    below = reply(carol, top)
    alice.put(f"/v1/users/{dora.username}/block")
    delete(bob, top)
    path = f"/v1/comments/{top['id']}"
    acts = [("POST", "/replies", {"text": "Hm"}), ("PATCH", "", {"text": "Hm"}), ("DELETE", "", None)]
    acts += [("PUT", "/reaction", {"emoji": "👍"}), ("DELETE", "/reaction", None)]
    # Whoever asks: that would tell whose it was.
    for reader in (alice, bob, carol):
        shown = reader.get(path)
        assert shown["deleted_at"]
        assert ids_of(reader.get(f"{path}/replies")["items"]) == [below["id"]]
        for method, tail, body in acts:
            problem(reader.ask(method, f"{path}{tail}", body), 409, "comment_deleted")
        # Its reactions went with it.
        problem(reader.ask("GET", f"{path}/reactions"), 404, "comment_not_found")
        assert reader.get(path) == shown
    for method, tail, body in acts:
        problem(dora.ask(method, f"{path}{tail}", body), 404, "comment_not_found")
    delete(carol, below)
    for method, tail, body in acts:
        problem(bob.ask(method, f"{path}{tail}", body), 404, "comment_not_found")


def test_an_unknown_post(alice: Person, problem: Problem) -> None:
    for post_id in ("0" * 13, "x"):
        problem(alice.ask("GET", f"/v1/posts/{post_id}/comments"), 404, "post_not_found")
        problem(alice.ask("POST", f"/v1/posts/{post_id}/comments", {"text": "Hm"}), 404, "post_not_found")


@pytest.mark.parametrize("cursor", ["x", "!!!!", "é", "Zg", "Zm9vYmFy"])
def test_a_malformed_cursor(alice: Person, problem: Problem, cursor: str) -> None:
    post = alice.post_photo("Pages")
    top = comment(alice, post)
    for path in (f"/v1/posts/{post['id']}/comments", f"/v1/comments/{top['id']}/replies", "/v1/me/commented"):
        answer = alice.http.get(path, params={"cursor": cursor})
        assert faults(problem(answer, 422, "invalid")) == {"cursor": "malformed"}


def test_a_cursor_of_another_list(alice: Person, problem: Problem) -> None:
    post = alice.post_photo("Pages")
    top = comment(alice, post)
    comment(alice, post)
    cursor = alice.get(f"/v1/posts/{post['id']}/comments", limit=1)["next_cursor"]
    answer = alice.http.get(f"/v1/comments/{top['id']}/replies", params={"cursor": cursor})
    assert faults(problem(answer, 422, "invalid")) == {"cursor": "malformed"}


def test_attachments_that_cannot_be(alice: Person, bob: Person, problem: Problem) -> None:
    post = alice.post_photo("Attach")
    photo = make_photo(3)
    foreign, taken, own = upload_attachment(bob), upload_attachment(alice), upload_attachment(alice)
    sound, still = alice.upload(
        [("actual", "audio/mpeg", b"\0" * 2048), ("placeholder", "image/jpeg", photo.placeholder)], "comment"
    )
    of_post = alice.upload_photo()
    assert alice.post(f"/v1/posts/{post['id']}/comments", {"text": "", "attachment": taken})["attachment"]
    size = {"width": 1, "height": 1}
    for attachment, expected in (
        (foreign, ("not_found", "not_found")),
        (taken, ("already_attached", "already_attached")),
        (of_post, ("wrong_purpose", "wrong_purpose")),
        (size | {"actual": sound, "placeholder": still}, ("wrong_content_type", None)),
        (size | {"actual": own["placeholder"], "placeholder": own["actual"]}, ("wrong_purpose", "wrong_purpose")),
        (size | {"actual": "no/such", "placeholder": own["placeholder"]}, ("not_found", None)),
    ):
        answer = alice.ask("POST", f"/v1/posts/{post['id']}/comments", {"text": "x", "attachment": attachment})
        both = dict(zip(("attachment.actual", "attachment.placeholder"), expected, strict=True))
        assert faults(problem(answer, 422, "invalid")) == {field: code for field, code in both.items() if code}
    assert len(comments(alice, post)) == 1
    # What was refused is still free to be attached, also where the comment could not be made.
    top = comment(alice, post)
    reply(alice, top)
    alice.delete(f"/v1/comments/{top['id']}")
    answer = alice.ask("POST", f"/v1/comments/{top['id']}/replies", {"text": "", "attachment": own})
    problem(answer, 409, "comment_deleted")
    assert alice.post(f"/v1/posts/{post['id']}/comments", {"text": "", "attachment": own})["attachment"]


def test_the_same_key_makes_one_comment(alice: Person) -> None:
    post = alice.post_photo("Once")
    path = f"/v1/posts/{post['id']}/comments"
    first, second = (alice.ask("POST", path, {"text": "Once"}, idempotency_key="k1") for _ in range(2))
    assert (first.status_code, second.headers["idempotent-replayed"]) == (201, "true")
    assert decoded(first) == decoded(second)
    assert len(comments(alice, post)) == 1


def test_what_is_unchanged_is_not_sent_again(alice: Person) -> None:
    made = comment(alice, alice.post_photo("ETag"))
    answer = alice.ask("GET", f"/v1/comments/{made['id']}")
    again = alice.ask("GET", f"/v1/comments/{made['id']}", if_none_match=answer.headers["etag"])
    assert again.status_code == 304
    edit(alice, made, "Otherwise")
    assert alice.ask("GET", f"/v1/comments/{made['id']}", if_none_match=answer.headers["etag"]).status_code == 200
    assert status(alice, made) == 200
