"""What is done with a post in the moment in which it is deleted: it is as absent as a moment later."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from shared.kernel import db, ids
from shared.posts import actions
from tests.client import Person, wait_until
from tests.comments.thread import comment, id_of
from tests.locks import somebody_waits_for


class Left(msgspec.Struct, frozen=True):
    comments: int
    replies_counted: int
    comments_counted: int
    engagements: int


LEFT = db.Statement(
    """SELECT (SELECT count(*) FROM comments WHERE post_id = p.id),
              (SELECT sum(reply_count) FROM comments WHERE post_id = p.id), p.comment_count,
              (SELECT count(*) FROM engagements WHERE subject_id = p.id)
         FROM posts p WHERE p.id = :id""",
    Left,
)
EMOJI, TEXT = {"emoji": "🦊"}, {"text": "Too late"}


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("POST", "/v1/posts/{post}/comments", TEXT, "post_not_found"),
        ("POST", "/v1/comments/{comment}/replies", TEXT, "comment_not_found"),
        ("PUT", "/v1/posts/{post}/reaction", EMOJI, "post_not_found"),
        ("PUT", "/v1/posts/{post}/save", None, "post_not_found"),
        ("PUT", "/v1/posts/{post}/repost", None, "post_not_found"),
    ],
)
def test_nothing_is_left_on_it(
    alice: Person, bob: Person, problem: Callable[..., Any], method: str, path: str, body: Any, code: str
) -> None:
    post = alice.post_photo("Going")
    top = comment(alice, post)
    post_id, alice_id = ids.decode(post["id"]), id_of(alice)
    with ThreadPoolExecutor(1) as thread:
        with db.transaction() as conn:
            assert actions.remove(conn, post_id, alice_id)
            asked = thread.submit(bob.ask, method, path.format(post=post["id"], comment=top["id"]), body)
            wait_until(lambda: somebody_waits_for(conn))
        problem(asked.result(), 404, code)
    with db.connection() as conn:
        assert LEFT.one(conn, id=post_id) == Left(1, 0, 1, 0)
