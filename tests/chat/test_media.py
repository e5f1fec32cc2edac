"""What is attached to messages: uploaded for them, read by the two alone, gone when it is deleted."""

import base64
import hmac
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from infra.photos import make_photo
from shared.kernel import clock, db, storage
from shared.kernel.config import settings
from shared.media.model import ORPHAN_MS, OrphansDue
from tests.chat.talk import friends, history, text, upload, upload_photo, write
from tests.client import Person, send, wait_until
from tests.media.test_orphans import AGE, DUE

Problem = Callable[[httpx.Response, int, str], dict[str, Any]]
PHOTO = make_photo(7)


def fetch(url: str) -> httpx.Response:
    return httpx.get(url, trust_env=False)


def faults(problem: dict[str, Any]) -> dict[str, str]:
    return {fault["field"]: fault["code"] for fault in problem["errors"]}


def test_every_kind_is_sent_and_read(alice: Person, bob: Person) -> None:
    friends(alice, bob)
    sound, document = b"\x00" * 2000, b"%PDF" * 100
    video = upload(alice, "video/mp4", b"\x01" * 5000)
    placeholder = upload_photo(alice)["placeholder"]
    sent = [
        {"type": "voice", "object": upload(alice, "audio/ogg", sound), "duration_ms": 1500},
        upload_photo(alice) | {"caption": "Look"},
        {"type": "video", "actual": video, "placeholder": placeholder},
        {"type": "audio", "object": upload(alice, "audio/mpeg", sound), "title": "Song"},
        {"type": "file", "object": upload(alice, "application/pdf", document), "name": "x.pdf"},
    ]
    answers = [write(alice, bob, content) for content in sent]
    seen = [one["content"] for one in reversed(history(bob, alice))]
    assert seen == [answer["content"] for answer in answers]
    words = [{name: value for name, value in one.items() if not name.endswith("url")} for one in seen]
    assert words == [
        {"type": "voice", "duration_ms": 1500},
        {"type": "photo", "caption": "Look"},
        {"type": "video", "caption": None},
        {"type": "audio", "title": "Song"},
        {"type": "file", "name": "x.pdf"},
    ]
    assert [fetch(one["url"]).content for one in seen] == [sound, PHOTO.actual, b"\x01" * 5000, sound, document]
    assert [fetch(one["placeholder_url"]).content for one in seen[1:3]] == [PHOTO.placeholder] * 2
    assert fetch(seen[4]["url"]).headers["content-type"] == "application/pdf"
    reply = write(bob, alice, "Nice", reply_to=answers[1])
    assert reply["reply_to"]["excerpt"] == "Look"
    assert write(bob, alice, "Nice too", reply_to=answers[0])["reply_to"]["excerpt"] == "voice"

    edited = alice.patch(f"/v1/messages/{answers[1]['id']}", {"content": {"type": "photo", "caption": None}})
    assert edited["content"] == answers[1]["content"] | {"caption": None}
    assert fetch(edited["content"]["url"]).status_code == 200


@pytest.mark.parametrize("kind", ["text/html", "image/svg+xml", "application/javascript", "application/xhtml+xml"])
def test_a_file_is_a_download_and_no_page_of_the_medias_origin(alice: Person, bob: Person, kind: str) -> None:
    page = b"<html xmlns='http://www.w3.org/1999/xhtml'><script>alert(1)</script></html>"
    file = {"variant": "actual", "content_type": kind, "size": len(page)}
    (authorised,) = alice.post("/v1/uploads", {"purpose": "message", "files": [file]})["uploads"]
    for field in ({}, {"Content-Disposition": "inline"}, {"Content-Disposition": ""}):
        headers = {name: value for name, value in authorised["headers"].items() if name != "Content-Disposition"}
        assert send(authorised | {"headers": headers | field}, page).status_code in (400, 403)
    assert send(authorised, page).status_code == 200
    content = write(alice, bob, {"type": "file", "object": authorised["object"], "name": "page.html"})["content"]
    for method in ("GET", "HEAD"):
        read = httpx.request(method, content["url"], trust_env=False)
        assert (read.status_code, read.headers["content-disposition"]) == (200, "attachment")
        assert read.headers["x-content-type-options"] == "nosniff"
    # What is looked at in the app itself is shown.
    photo = fetch(write(alice, bob, upload_photo(alice))["content"]["url"])
    assert photo.headers["content-type"] == "image/jpeg"
    assert "content-disposition" not in photo.headers


def signed(url: str, key: bytes) -> str:
    return f"{url}&Signature={base64.urlsafe_b64encode(hmac.digest(key, url.encode(), 'sha1')).decode()}"


def test_only_a_url_with_its_own_signature_reads_it_and_only_for_its_time(alice: Person, bob: Person) -> None:
    url = write(alice, bob, upload_photo(alice))["content"]["url"]
    assert fetch(url).status_code == 200
    bare, _, query = url.partition("?")
    expires = int(re.findall(r"Expires=(\d+)", query)[0])
    assert 7190 <= expires - clock.now_ms() / 1000 <= 10800
    assert expires % 3600 == 0
    other = write(alice, bob, upload_photo(alice))["content"]["url"]
    name, key = next(iter(settings().media_keys.items()))
    past = int(clock.now_ms() / 1000) - 1
    refused = {
        "none": bare,
        "of another object": f"{bare}?{other.partition('?')[2]}",
        "for longer": url.replace(f"Expires={expires}", f"Expires={expires + 3600}"),
        "changed": url[:-6] + ("A" if url[-6] != "A" else "B") + url[-5:],
        "cut": re.sub(r"Signature=.*", "Signature=", url),
        "without": re.sub(r"&Signature=.*", "", url),
        "more": url + "&x=1",
        "of another key": signed(f"{bare}?Expires={expires}&KeyName={name}", b"k" * 16),
        "of no key": signed(f"{bare}?Expires={expires}&KeyName=none", key),
        "expired": signed(f"{bare}?Expires={past}&KeyName={name}", key),
        "in the public bucket": bare.replace(settings().private_media_base_url, settings().media_base_url),
    }
    assert {why: fetch(each).status_code for why, each in refused.items()} == dict.fromkeys(refused, 403) | {
        "in the public bucket": 404
    }
    assert fetch(signed(f"{bare}?Expires={past + 60}&KeyName={name}", key)).status_code == 200
    for method in ("PUT", "DELETE", "POST"):
        assert httpx.request(method, url, content=b"mine", trust_env=False).status_code == 403
    assert fetch(url).content == PHOTO.actual


def test_reading_signs_no_url_twice_in_an_hour(alice: Person, bob: Person) -> None:
    write(alice, bob, upload_photo(alice))
    first, second = (history(one, other)[0]["content"]["url"] for one, other in ((alice, bob), (bob, alice)))
    assert first == second
    storage._signed_for_cdn.cache_clear()
    name = urlsplit(first).path.split("/", 2)[2]
    assert storage.private_url(name) == storage.private_url(name)
    assert storage._signed_for_cdn.cache_info().hits == 1


def test_what_is_deleted_for_everyone_is_deleted_from_storage(alice: Person, bob: Person) -> None:
    friends(alice, bob)
    said = write(alice, bob, upload_photo(alice))
    bob.delete(f"/v1/messages/{said['id']}")
    assert fetch(said["content"]["url"]).status_code == 200
    alice.delete(f"/v1/messages/{said['id']}?for=everyone")
    for name in ("url", "placeholder_url"):
        wait_until(lambda name=name: fetch(said["content"][name]).status_code == 404)


def test_what_cannot_be_attached_is_named_and_nothing_is_sent(alice: Person, bob: Person, problem: Problem) -> None:
    photo = upload_photo(alice)
    of_post = alice.upload_photo()
    clip = upload(alice, "video/mp4", b"\x01" * 5000)
    cases: list[tuple[dict[str, Any], dict[str, str]]] = [
        (
            {"type": "photo", "actual": "message/none", "placeholder": of_post["placeholder"]},
            {"content.actual": "not_found", "content.placeholder": "wrong_purpose"},
        ),
        ({"type": "photo", "actual": photo["placeholder"], "placeholder": photo["placeholder"]},
         {"content.actual": "wrong_purpose"}),
        (photo | {"type": "video"}, {"content.actual": "wrong_content_type"}),
        ({"type": "voice", "object": clip, "duration_ms": 1}, {"content.object": "wrong_content_type"}),
        ({"type": "file", "object": clip, "name": "film.mp4"}, {"content.object": "wrong_content_type"}),
        ({"type": "file", "object": upload(bob), "name": "x.jpg"}, {"content.object": "not_found"}),
    ]  # fmt: skip
    path = f"/v1/chats/{bob.username}/messages"
    answer = alice.ask("POST", path, {"client_id": "x", "content": cases[2][0], "reply_to": "0" * 13})
    assert faults(problem(answer, 422, "invalid")) == cases[2][1] | {"reply_to": "not_found"}
    for content, told in cases:
        refused = alice.ask("POST", path, {"client_id": "x", "content": content})
        assert faults(problem(refused, 422, "invalid")) == told
    assert history(alice, bob) == []
    # What was refused may still be attached, once.
    write(alice, bob, photo)
    again = alice.ask("POST", path, {"client_id": "y", "content": photo})
    assert faults(problem(again, 422, "invalid")) == {
        "content.actual": "already_attached",
        "content.placeholder": "already_attached",
    }
    # A private object is nothing to a post.
    medium = upload_photo(alice) | {"width": 1, "height": 1}
    medium.pop("type")
    post = {"type": "photo:square", "media": [medium], "description": ""}
    assert set(faults(problem(alice.ask("POST", "/v1/posts", post), 422, "invalid")).values()) == {"wrong_purpose"}


def test_a_photo_that_is_sent_twice_is_one_message(alice: Person, bob: Person) -> None:
    photo = upload_photo(alice)
    first = write(alice, bob, photo, client_id="one")
    assert write(alice, bob, photo, client_id="one") == first
    assert write(alice, bob, text("Something else"), client_id="one") == first
    with ThreadPoolExecutor(6) as threads:
        for number in range(4):
            content = upload_photo(alice)
            sent = list(
                threads.map(lambda _, of=content, id=f"at once {number}": write(alice, bob, of, client_id=id), range(6))
            )
            assert all(one == sent[0] for one in sent)
    assert len(history(bob, alice)) == 5


def test_what_is_never_sent_is_swept(alice: Person) -> None:
    name = upload(alice)
    url = storage.private_url(name)
    assert fetch(url).status_code == 200
    with db.connection() as conn:
        assert AGE.run(conn, at=clock.now_ms() - ORPHAN_MS - 1, objects=[name]) == 1
        assert DUE.run(conn, topic=OrphansDue.topic) == 1
    wait_until(lambda: fetch(url).status_code == 404)
