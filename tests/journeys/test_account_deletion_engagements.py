"""What someone did with the posts and comments of others goes with their account, and the counts stay true."""

from infra.local.stack import Stack
from shared.kernel import db
from tests.accounts.receipts import There
from tests.client import PASSWORD, Person, sign_up, wait_until
from tests.journeys.test_account_deletion import ended, id_of

LEFT = db.Statement(
    """SELECT (SELECT count(*) FROM engagements
                WHERE user_id = :user_id AND num_nonnulls(reaction_id, save_id, repost_id) > 0)
            + (SELECT count(*) FROM mentions WHERE user_id = :user_id)
            + (SELECT count(*) FROM comments WHERE author_id = :user_id AND (deleted_at IS NULL OR text <> ''))
            + (SELECT count(*) FROM engagements e JOIN posts p ON p.id = e.subject_id WHERE p.author_id = :user_id)
            + (SELECT count(*) FROM mentions m JOIN posts p ON p.id = m.post_id WHERE p.author_id = :user_id)""",
    There,
)


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
