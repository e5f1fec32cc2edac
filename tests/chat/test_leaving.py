"""What somebody said in chats is theirs to take along, and goes with their account; what others said stays theirs."""

import json
import re

import httpx

from infra.local.stack import Stack
from infra.photos import make_photo
from shared.accounts import exports
from shared.kernel import cache, db, ids
from tests.accounts.receipts import There
from tests.chat.talk import acknowledge, friends, history, react, upload_photo, write
from tests.client import PASSWORD, Person, sign_up, wait_until
from tests.journeys.test_account_deletion import ended, id_of
from tests.journeys.test_account_export import download, link_to, read

LEFT = db.Statement(
    """SELECT (SELECT count(*) FROM messages WHERE sender_id = :user_id
                  AND (content IS NOT NULL OR sender_emoji IS NOT NULL OR recipient_emoji IS NOT NULL))
            + (SELECT count(*) FROM messages WHERE recipient_id = :user_id AND recipient_emoji IS NOT NULL)
            + (SELECT count(*) FROM chat_members WHERE user_id = :user_id)
            + (SELECT count(*) FROM uploads WHERE user_id = :user_id)""",
    There,
)


def test_what_one_said_is_in_the_archive_and_not_what_others_said(alice: Person, bob: Person) -> None:
    friends(alice, bob)
    theirs = write(bob, alice, "Bob's own words")
    mine = write(alice, bob, "Mine", reply_to=theirs)
    photo = write(alice, bob, upload_photo(alice) | {"caption": "Seen"})
    gone = write(alice, bob, "Taken back")
    alice.delete(f"/v1/messages/{gone['id']}?for=everyone")
    react(alice, mine, "👍")
    react(bob, mine, "🦊")
    react(alice, theirs, "❤️")
    alice.delete(f"/v1/messages/{photo['id']}")
    acknowledge(bob, alice, read_up_to=mine)
    acknowledge(alice, bob, delivered_up_to=theirs)
    alice.post("/v1/me/export")
    url, _ = link_to(alice)
    held = read(download(url).content)
    first, second, third = held["messages.json"]
    assert first | {"read_at": 0, "delivered_at": 0} == {
        "id": mine["id"],
        "client_id": first["client_id"],
        "to": bob.username,
        "content": mine["content"],
        "reply_to": theirs["id"],
        "reaction": "👍",
        "received_reaction": "🦊",
        "hidden": False,
        "sent_at": mine["sent_at"],
        "delivered_at": 0,
        "read_at": 0,
        "edited_at": None,
        "deleted_at": None,
    }
    assert first["read_at"] >= first["delivered_at"] > mine["sent_at"] - 1
    assert (second["id"], second["content"]["caption"], second["hidden"]) == (photo["id"], "Seen", True)
    # Its media, private, can be read as long as the archive.
    photos = make_photo(7)
    sent = {second["content"]["actual"]: photos.actual, second["content"]["placeholder"]: photos.placeholder}
    assert {name: download(link).content for name, link in second["links"].items()} == sent
    until = min(int(re.findall(r"Expires=(\d+)", link)[0]) for link in second["links"].values())
    assert until * 1000 >= second["sent_at"] + exports.KEPT_MS
    assert (third["id"], third["content"]) == (gone["id"], None)
    assert third["deleted_at"] >= third["sent_at"]
    assert held["message_reactions.json"] == [{"message_id": theirs["id"], "sender": bob.username, "reaction": "❤️"}]
    assert held["chats.json"] == [
        {
            "username": bob.username,
            "box": "inbox",
            "updated_at": gone["sent_at"],
            "delivered_up_to": theirs["id"],
            "read_up_to": None,
            "cleared_up_to": None,
        }
    ]
    # Where it is public, a name is an address; where it is private, messages.json has links.
    assert [one["url"] for one in held["uploads.json"]] == [None, None]
    assert "Bob's own words" not in json.dumps(held)


def test_what_one_said_goes_with_their_account(stack: Stack, alice: Person, bob: Person) -> None:
    leaver = sign_up(stack)
    user_id = id_of(leaver)
    for other in (alice, bob):
        friends(leaver, other)
        said = write(leaver, other, "Remember me")
        react(other, said, "👍")
        react(leaver, write(other, leaver, "I will"), "❤️")
    sent = write(leaver, alice, upload_photo(leaver))
    before = write(leaver, alice, "Taken back before")
    leaver.delete(f"/v1/messages/{before['id']}?for=everyone")
    assert len(history(alice, leaver)) == 4
    kept = write(alice, bob, "Of others")

    assert leaver.ask("DELETE", "/v1/me", {"password": PASSWORD}).status_code == 204
    assert alice.ask("GET", f"/v1/chats/{leaver.username}/messages").status_code == 404
    told = ended(user_id)
    assert told.counts == told.counts | {"messages": 3, "reactions to messages": 2, "chats": 2}
    wait_until(lambda: httpx.get(sent["content"]["url"], trust_env=False).status_code == 404)

    def cached() -> bytes:
        pairs = [(user_id, id_of(alice)), (id_of(alice), user_id)]
        (found,) = cache.run_sync(("MGET", *[f"messages:{ids.encode(a)}{ids.encode(b)}" for a, b in pairs]))
        return b"".join(value or b"" for value in found)

    wait_until(lambda: b"Remember me" not in cached())
    # An upload whose URL may still be good is swept with those that nobody attached.
    with db.connection() as conn:
        assert LEFT.one(conn, user_id=user_id).count <= 2
    assert [one["id"] for one in history(bob, alice)] == [kept["id"]]
