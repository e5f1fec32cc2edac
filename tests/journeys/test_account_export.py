"""An archive of all that is held on a user: asked for, mailed as a link, downloaded, over."""

import io
import json
import re
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import ANY
from urllib.parse import urlsplit

import httpx
import pytest

from infra.local.stack import Stack
from shared.accounts import export_store, exports, mail
from shared.accounts.model import ExportMade, ExportRequested
from shared.kernel import clock, db, ids
from shared.kernel.endpoint import Caller
from shared.kernel.problems import TooManyRequests
from shared.kernel.upkeep import UpkeepDue
from shared.profiles import reads as profiles
from tests.chat.talk import friends, react, write
from tests.client import Format, Mailbox, Person, Visitor, sign_up, wait_until

Problem = Callable[[httpx.Response, int, str], dict[str, Any]]
AGE = db.Statement("UPDATE exports SET requested_at = requested_at - :ms, expires_at = expires_at - :ms")
EXPIRE = db.Statement("UPDATE exports SET expires_at = 0 WHERE user_id = :user_id")
IDS = db.Statement("SELECT id FROM exports WHERE user_id = :user_id", ExportMade)
DUE = db.Statement("UPDATE schedules SET next_at = 0 WHERE topic = :topic")


def link_to(person: Person, past: int = 0) -> tuple[str, dict[str, Any]]:
    """The link in the newest mail with an archive, beyond the `past` that came before; and the mail."""
    box = Mailbox(person.stack.console, person.email)
    mails = wait_until(lambda: [mail for mail in box.mails() if "archive" in mail["subject"]][: -past or None])
    found = re.search(r"https?://\S+", mails[0]["text"])
    assert found, mails[0]
    return found[0], mails[0]


def made_at(entity: dict[str, Any]) -> int:
    return ids.made_at(ids.decode(entity["id"]))


def download(url: str) -> httpx.Response:
    return httpx.get(url, trust_env=False)


def read(archive: bytes) -> dict[str, Any]:
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        assert file.testzip() is None
        return {name: json.loads(file.read(name)) for name in file.namelist()}


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_what_is_held_on_someone_is_theirs_to_take(stack: Stack, bob: Person, problem: Problem, format: Format) -> None:
    ada = sign_up(stack, format=format, bio="Counts")
    post = ada.post_photo(f"With @{bob.username} #sea 🌊")
    gone = ada.post_photo("Thought better of it")
    ada.delete(f"/v1/posts/{gone['id']}")
    ada.follow(bob.username)
    bob.follow(ada.username)
    said = bob.post(f"/v1/posts/{bob.post_photo()['id']}/comments", {"text": f"For @{ada.username}"})
    theirs = bob.post_photo(f"With @{ada.username}")
    ada.put(f"/v1/posts/{theirs['id']}/save")
    ada.put(f"/v1/posts/{theirs['id']}/reaction", {"emoji": "🌊"})
    wait_until(lambda: len(ada.get("/v1/notifications")["items"]) == 3)
    told = ada.get("/v1/notifications")["items"]

    answer = ada.ask("POST", "/v1/me/export")
    assert answer.status_code == 202
    url, sent = link_to(ada)
    assert re.search(r"good until \d+ [A-Z][a-z]+ 20\d\d, \d\d:\d\d UTC", sent["text"])
    archive = download(url)
    assert archive.status_code == 200
    assert archive.headers["content-type"] == "application/zip"
    assert archive.headers["content-disposition"] == f'attachment; filename="i9lyfe-{ada.username}.zip"'

    held = read(archive.content)
    (profile,) = held["profile.json"]
    me = ada.get("/v1/me")
    assert {name: profile[name] for name in ("username", "email", "bio", "created_at")} == {
        "username": ada.username,
        "email": ada.email,
        "bio": "Counts",
        "created_at": me["created_at"],
    }
    assert {name: profile[name] for name in me["counts"]} == me["counts"]
    kept, deleted = held["posts.json"]
    known = kept.keys() - {"media", "deleted_at"}
    assert {name: kept[name] for name in known} == {name: post[name] for name in known}
    assert (deleted["description"], deleted["media"]) == (gone["description"], None)
    assert deleted["deleted_at"] > kept["created_at"]
    assert kept["media"] == [{name: post["media"][0][name] for name in kept["media"][0]}]
    assert download(kept["media"][0]["url"]).status_code == 200
    (followed,), (follower,) = held["relationships.json"], held["followers.json"]
    assert followed == {"username": bob.username, "followed_at": ANY, "blocked_at": None, "muted_at": None}
    assert follower == {"username": bob.username, "followed_at": ANY}
    assert me["created_at"] <= followed["followed_at"] <= follower["followed_at"] <= said["created_at"]
    (done,) = held["engagements.json"]
    assert (done["subject_type"], done["subject_id"], done["reaction"]) == ("post", theirs["id"], "🌊")
    assert theirs["created_at"] <= done["saved_at"] <= done["reacted_at"]
    assert done["reposted_at"] is None
    assert held["mentions.json"] == [{"post_id": theirs["id"], "at": made_at(theirs)}]
    assert held["comment_mentions.json"] == [{"comment_id": said["id"], "at": made_at(said)}]
    assert sorted((one["id"], one["type"], one["at"]) for one in held["notifications.json"]) == sorted(
        (one["id"], one["type"], one["at"]) for one in told
    )
    for one in held["notifications.json"]:
        assert one["actors"] == [{"username": bob.username, "at": one["at"]}]
    assert [one["id"] for one in held["sessions.json"]] == [ada.session["id"]]
    assert {one["url"] for one in held["uploads.json"]} == {
        post["media"][0]["url"],
        post["media"][0]["placeholder_url"],
    }
    assert held["index.json"]["items"] == {name: len(items) for name, items in held.items() if name != "index.json"}
    assert b"argon2" not in archive.content
    everything = json.dumps(held)
    assert "argon2" not in everything
    assert bob.email not in everything

    again = ada.ask("POST", "/v1/me/export")
    problem(again, 429, "one_export_a_day")
    assert 86_000 < int(again.headers["retry-after"]) <= 86_400


def test_only_the_link_reads_an_archive_and_only_for_its_time(stack: Stack, alice: Person) -> None:
    user_id = profiles.named([alice.username])[alice.username]
    alice.post("/v1/me/export")
    url, _ = link_to(alice)
    parts = urlsplit(url)
    bare = f"{parts.scheme}://{parts.netloc}{parts.path}"
    assert download(bare).status_code == 403
    assert download(re.sub(r"X-Goog-Expires=\d+", "X-Goog-Expires=604800", url)).status_code == 403
    assert httpx.request("PUT", url, content=b"mine", trust_env=False).status_code == 403
    assert httpx.request("DELETE", url, trust_env=False).status_code == 403
    assert download(url).status_code == 200

    with db.connection() as conn:
        EXPIRE.run(conn, user_id=user_id)
        DUE.run(conn, topic=UpkeepDue.topic)
    wait_until(lambda: download(url).status_code == 404)


def test_by_a_clock_that_is_behind_the_next_is_a_day_away_and_no_more(
    alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = Caller(profiles.named([alice.username])[alice.username], 0)
    alice.post("/v1/me/export")
    now = clock.now_ms()
    monkeypatch.setattr(clock, "now_ms", lambda: now - 60_000)
    with pytest.raises(TooManyRequests) as refused:
        exports.request(caller)
    assert refused.value.headers["Retry-After"] == "86400"


def test_of_many_requests_at_once_one_archive_is_made(alice: Person) -> None:
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda _: alice.ask("POST", "/v1/me/export").status_code, range(6)))
    assert sorted(answers) == [202] + [429] * 5


def test_an_archive_asked_for_again_a_day_later(stack: Stack, alice: Person) -> None:
    alice.post("/v1/me/export")
    first, _ = link_to(alice)
    with db.connection() as conn:
        AGE.run(conn, ms=exports.DAY_MS)
    alice.post_photo("Since then")
    alice.post("/v1/me/export")
    second, _ = link_to(alice, past=1)
    assert urlsplit(first).path != urlsplit(second).path
    assert [len(read(download(url).content)["posts.json"]) for url in (first, second)] == [0, 1]


def test_making_and_mailing_it_twice_changes_nothing(stack: Stack, alice: Person) -> None:
    user_id = profiles.named([alice.username])[alice.username]
    alice.post("/v1/me/export")
    url, _ = link_to(alice)
    before = download(url).content
    with db.connection() as conn:
        (made,) = IDS.all(conn, user_id=user_id)
    for _ in range(2):
        exports.make(ExportRequested(made.export_id, user_id))
        mail.send_export_link(ExportMade(made.export_id))
    assert download(url).content == before
    assert len([one for one in Mailbox(stack.console, alice.email).mails() if "archive" in one["subject"]]) == 1


def test_a_large_account_is_written_a_page_at_a_time(
    stack: Stack, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    posts = [alice.post_photo(str(number), seed=number)["id"] for number in range(5)]
    user_id = profiles.named([alice.username])[alice.username]
    monkeypatch.setattr(export_store, "NEXT", db.Statement("FETCH 2 FROM items", export_store.ItemRow))
    file = io.BytesIO()
    exports._write(file, user_id, alice.username)
    held = read(file.getvalue())
    assert [post["id"] for post in held["posts.json"]] == posts
    assert len({one["url"] for one in held["uploads.json"]}) == 10


def archive_of(person: Person) -> dict[str, Any]:
    person.post("/v1/me/export")
    return read(download(link_to(person)[0]).content)


def test_nobody_is_named_whom_its_owner_may_not_see(alice: Person, bob: Person, person: Callable[[], Person]) -> None:
    carol = person()
    posts = [alice.post_photo("Hers", seed=seed) for seed in range(2)]
    for one, liked in ((bob, posts), (carol, posts[:1])):
        for post in liked:
            one.put(f"/v1/posts/{post['id']}/reaction", {"emoji": "🔥"})
        friends(one, alice)
        write(alice, one, "For you")
        react(alice, write(one, alice, "For you"), "🌊")
    wait_until(lambda: sum(group["actor_count"] for group in alice.get("/v1/notifications")["items"]) == 5)
    for one in (bob, carol):
        alice.put(f"/v1/users/{one.username}/mute")
    bob.put(f"/v1/users/{alice.username}/block")
    assert alice.ask("PUT", f"/v1/users/{bob.username}/block").status_code == 404  # and done all the same

    held = archive_of(alice)
    assert [name for name, items in held.items() if bob.username in json.dumps(items)] == []
    told = {(one["type"], *[actor["username"] for actor in one["actors"]]) for one in held["notifications.json"]}
    assert told == {("reaction", carol.username), ("follow", carol.username)}
    assert [one["to"] for one in held["messages.json"]] == [None, carol.username]
    for name in ("chats.json", "relationships.json", "followers.json"):
        assert [one["username"] for one in held[name]] == [carol.username]
    assert [one["sender"] for one in held["message_reactions.json"]] == [carol.username]


def test_each_post_and_comment_that_names_its_owner_is_in_it(alice: Person, bob: Person) -> None:
    post, name = alice.post_photo(), f"@{alice.username}"
    texts = (name, f"{name} again", "Nobody", f"@{bob.username}", f"{name}x")
    said = [bob.post(f"/v1/posts/{post['id']}/comments", {"text": text}) for text in texts]
    bob.patch(f"/v1/comments/{said[1]['id']}", {"text": "Nobody"})
    bob.patch(f"/v1/comments/{said[2]['id']}", {"text": name})
    posts = [bob.post_photo(name, seed=seed) for seed in range(2)]
    bob.patch(f"/v1/posts/{posts[0]['id']}", {"description": "Nobody"})
    held = archive_of(alice)
    assert held["mentions.json"] == [{"post_id": posts[1]["id"], "at": made_at(posts[1])}]
    assert held["comment_mentions.json"] == [
        {"comment_id": one["id"], "at": one["created_at"]} for one in (said[0], said[2])
    ]


def test_a_visitor_has_nothing_to_take(visitor: Visitor, problem: Problem) -> None:
    problem(visitor.ask("POST", "/v1/me/export"), 401, "not_signed_in")
