"""`./dev seed`: the world that was planned is there, through the API; again and again the same one, and never twice."""

import hashlib
import io
import os
import re
import signal
import subprocess
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from PIL import Image

from infra.local.stack import ROOT, Stack
from infra.photos import PICTURE_SIZES
from infra.seed.chats import SORTS, PlannedChat, PlannedMessage
from infra.seed.talk import Remark
from infra.seed.world import PASSWORD, World, build
from infra.verify import scan
from shared.engagement.model import emoji_of
from shared.moderation import actions as moderation
from shared.posts.model import PostType
from tests.client import TLS, Visitor, sign_in, sign_up, wait_until

USERS, SEED = 12, 4
KINDS = ("celebrity", "regular", "loner")


def start(stack: Path, *arguments: str, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "infra.local.cli", "seed", "--data", str(stack), *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def seed(stack: Path, *arguments: str) -> tuple[int, str, str]:
    """The exit code, and what was said on the standard output and on the other."""
    run = start(stack, *arguments)
    output, complaints = run.communicate(timeout=100)
    return run.returncode, output, complaints


def posts_of(visitor: Visitor, username: str) -> Counter[tuple[str, str, int]]:
    found = visitor.items(f"/v1/users/{username}/posts")
    return Counter((post["type"], post["description"], len(post["media"])) for post in found)


def is_made(visitor: Visitor, username: str) -> bool:
    return visitor.ask("GET", f"/v1/users/{username}").is_success


def said_under(reader: Visitor, path: str) -> list[Any]:
    """All that is said at a path, the oldest first: (author, text, whether with a picture, reactions, replies)."""
    return [
        (
            one["author"] and one["author"]["username"],
            one["text"],
            one["attachment"] is not None,
            one["reactions"],
            said_under(reader, f"/v1/comments/{one['id']}/replies"),
        )
        for one in reversed(list(reader.items(path, 100)))
    ]


def planned_under(remarks: list[Remark]) -> list[Any]:
    return [
        (
            None if one.deleted else one.author,
            None if one.deleted else one.edited or one.text,
            one.photo is not None and not one.deleted,
            tally(one.reactions),
            planned_under(one.replies),
        )
        for one in remarks
    ]


def tally(reactions: list[tuple[str, str]]) -> dict[str | None, int]:
    return Counter(emoji_of(emoji) for _, emoji in reactions)


def every(remarks: list[Remark], depth: int = 1) -> Iterator[tuple[int, Remark]]:
    for one in remarks:
        yield depth, one
        yield from every(one.replies, depth + 1)


def scripts(text: str) -> set[str]:
    return {unicodedata.name(letter).split()[0] for letter in text if letter.isalpha()}


@pytest.fixture(scope="module")
def world() -> World:
    return build(USERS, SEED)


@pytest.fixture(scope="module")
def differences(stack: Stack) -> set[str]:
    """What verify finds that others left on the stack."""
    return {one.key for one in scan.verify().differences}


@pytest.fixture(scope="module")
def said(stack: Stack, differences: set[str]) -> str:
    """What the command printed; it was cut short while it posted, they talked and they chatted; then run again."""
    first, planned = Visitor(stack.api), build(USERS, SEED)
    author = planned.posts[0].author
    if not is_made(first, author):
        cut_short(stack, lambda: is_made(first, author) and posts_of(first, author))
        talked_about = planned.posts[-1].author
        cut_short(stack, lambda: is_made(first, talked_about) and comments_of(first, talked_about))
        writer = sign_in(stack, planned.chats[0].one, PASSWORD)
        cut_short(stack, lambda: writer.get("/v1/chats")["items"])
    code, output, complaints = seed(stack.data, "--users", str(USERS), "--seed", str(SEED))
    assert (code, complaints) == (0, ""), output
    return output


def cut_short(stack: Stack, when: Callable[[], Any]) -> None:
    cut = start(stack.data, "--users", str(USERS), "--seed", str(SEED))
    wait_until(when, 60)
    cut.send_signal(signal.SIGINT)
    output, complaints = cut.communicate(timeout=30)
    # On a busy machine it may have been seen too late.
    assert (cut.returncode, complaints) in ((130, "./dev seed: stopped; run it again for the rest\n"), (0, "")), output


def comments_of(visitor: Visitor, username: str) -> int:
    return sum(post["counts"]["comments"] for post in visitor.items(f"/v1/users/{username}/posts"))


def test_a_plan_is_the_same_in_every_process_and_another_for_other_numbers(world: World):
    script = f"import infra.seed.world as w; print(repr(w.build({USERS}, {SEED})))"
    for hashes in ("1", "2"):
        env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": hashes, "PYTHONIOENCODING": "utf-8"}
        again = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, check=True).stdout
        assert again.decode().strip() == repr(world)
    assert build(USERS, SEED) == world
    assert build(USERS, SEED + 1) != world


def test_a_world_of_any_size_has_a_celebrity_and_no_name_twice():
    for users in (1, 2, 3, 9, 10, 500):
        planned = build(users, 1)
        kinds = Counter(one.kind for one in planned.residents)
        assert kinds.total() == len({one.username for one in planned.residents}) == users
        assert kinds["celebrity"] >= 1
        assert all(one != other for one, other in planned.follows)


def test_everyone_who_was_planned_signs_in_with_the_printed_password(stack: Stack, world: World, said: str):
    found = re.search(r"password of each of these accounts is:\s+(.+)", said)
    assert found, said
    for one in world.residents:
        me = sign_in(stack, one.username, found[1].strip()).get("/v1/me")
        assert (me["user"]["name"], me["bio"]) == (one.name, one.bio)
    assert f"{USERS}/{USERS}" in said


def test_the_graph_is_the_one_that_was_planned(visitor: Visitor, world: World, said: str):
    followers = Counter(followee for _, followee in world.follows)
    following = Counter(follower for follower, _ in world.follows)
    for one in world.residents:
        counts = visitor.get(f"/v1/users/{one.username}")["counts"]
        assert (counts["followers"], counts["following"]) == (followers[one.username], following[one.username])
    had = {kind: [followers[one.username] for one in world.residents if one.kind == kind] for kind in KINDS}
    assert min(had["celebrity"]) > max(had["regular"])
    assert min(had["celebrity"]) > USERS / 2
    assert set(had["loner"]) == {0}


def test_each_post_is_there_once_though_the_first_run_was_cut_short(visitor: Visitor, world: World, said: str):
    for one in world.residents:
        planned = Counter(
            (p.type, p.edited or p.description, len(p.media)) for p in world.posts if p.author == one.username
        )
        assert posts_of(visitor, one.username) == planned
    assert {post.type for post in world.posts} == set(get_args(PostType))


def by_text(reader: Visitor, world: World) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Each planned post with the one that is there; those with the same words are left out."""
    words = Counter((post.author, post.edited or post.description) for post in world.posts)
    there = {
        (one.username, post["description"]): post
        for one in world.residents
        for post in reader.items(f"/v1/users/{one.username}/posts")
    }
    for post in world.posts:
        key = (post.author, post.edited or post.description)
        if words[key] == 1:
            yield post, there[key]


def test_what_is_said_below_a_post_is_there_once(visitor: Visitor, world: World, said: str):
    for planned, post in by_text(visitor, world):
        assert said_under(visitor, f"/v1/posts/{post['id']}/comments") == planned_under(planned.talk)
        assert post["counts"]["comments"] == sum(not one.deleted for _, one in every(planned.talk))
    remarks = [one for post in world.posts for one in every(post.talk)]
    assert max(depth for depth, _ in remarks) >= 5
    for what in ("deleted", "edited", "photo", "reactions"):
        assert any(getattr(one, what) for _, one in remarks), what


def test_what_was_done_with_a_post_is_what_was_planned(visitor: Visitor, world: World, said: str):
    for planned, post in by_text(visitor, world):
        assert post["reactions"] == tally(planned.reactions)
        assert (post["counts"]["saves"], post["counts"]["reposts"]) == (len(planned.saves), len(planned.reposts))
        assert (post["edited_at"] is None) == (planned.edited is None)
        assert [medium["alt_text"] for medium in post["media"]] == [medium.alt_text for medium in planned.media]
    assert len({emoji for post in world.posts for _, emoji in post.reactions}) > 20


def test_blocks_mutes_pictures_links_and_settings_are_there(stack: Stack, world: World, said: str):
    people = {one.username: sign_in(stack, one.username, PASSWORD) for one in world.residents}
    for path, pairs in (("blocked", world.blocks), ("muted", world.mutes)):
        assert pairs
        found = {(name, one["user"]["username"]) for name in people for one in people[name].items(f"/v1/me/{path}")}
        assert found == set(pairs)
    for one in world.residents:
        me = people[one.username].get("/v1/me")
        assert me["links"] == list(one.links)
        assert {name for name, wanted in me["settings"].items() if not wanted} == set(one.unwanted)
        assert (me["user"]["picture"] is None) == (one.picture is None)
        for size, url in (me["user"]["picture"] or {}).items():
            assert Image.open(io.BytesIO(fetched(url).content)).width == PICTURE_SIZES[size]


def chat_as_planned(chat: PlannedChat) -> list[Any]:
    """As both see it: (sender, its sort and words, place of what it replies to, reactions, status)."""
    return [
        (
            one.sender,
            None if one.deleted else (one.sort, one.edited or words_planned(one)),
            None if one.deleted else one.reply_to,
            {(name, emoji_of(emoji)) for name, emoji in one.reactions},
            status_planned(chat, one.sender, place),
        )
        for place, one in enumerate(chat.messages)
    ]


def words_planned(message: PlannedMessage) -> str | None:
    return {"voice": None, "file": f"{message.seed}.txt"}.get(message.sort, message.text)


def status_planned(chat: PlannedChat, sender: str, place: int) -> str:
    """How far it has come with the other, whom a request tells nothing of until it is accepted."""
    other = chat.other if sender == chat.one else chat.one
    if chat.fate in ("wait", "decline") or other not in chat.marks:
        return "sent"
    delivered, read = chat.marks[other]
    return "read" if place <= read else "delivered" if place <= delivered else "sent"


def chat_as_it_is(reader: Visitor, other: str) -> list[Any]:
    there = list(reversed(list(reader.items(f"/v1/chats/{other}/messages", 100))))
    places = {one["id"]: place for place, one in enumerate(there)}
    return [
        (
            one["sender"]["username"],
            one["content"] and (one["content"]["type"], words_of(one["content"])),
            one["reply_to"] and places[one["reply_to"]["id"]],
            {(reaction["user"]["username"], reaction["emoji"]) for reaction in one["reactions"]},
            one["status"],
        )
        for one in there
    ]


def words_of(content: dict[str, Any]) -> str | None:
    return next((content[name] for name in ("text", "caption", "title", "name") if name in content), None)


def test_chats_are_there_once_for_both(stack: Stack, world: World, said: str):
    people = {name: sign_in(stack, name, PASSWORD) for chat in world.chats for name in (chat.one, chat.other)}
    for chat in world.chats:
        for one, other in ((chat.one, chat.other), (chat.other, chat.one)):
            assert chat_as_it_is(people[one], other) == chat_as_planned(chat)
    for name, person in people.items():
        boxes = {"inbox": set[str](), "requests": set[str]()}
        for chat in world.chats:
            if chat.one == name or (chat.other == name and chat.fate in ("talk", "accept")):
                boxes["inbox"].add(chat.other if chat.one == name else chat.one)
            elif chat.other == name and chat.fate == "wait":
                boxes["requests"].add(chat.one)
        for box, others in boxes.items():
            assert {one["with"]["username"] for one in person.items("/v1/chats", box=box)} == others
    messages = [one for chat in world.chats for one in chat.messages]
    assert {one.sort for one in messages} == set(SORTS)
    assert {chat.fate for chat in world.chats} == {"talk", "wait", "accept", "decline"}
    for what in ("deleted", "edited", "reactions", "reply_to"):
        assert any(getattr(one, what) for one in messages), what


def test_what_is_attached_to_messages_is_there(stack: Stack, world: World, said: str):
    chat = world.chats[0]
    there = sign_in(stack, chat.one, PASSWORD).items(f"/v1/chats/{chat.other}/messages", 100)
    begins = {"photo": b"\xff\xd8\xff", "video": b"\x1aE\xdf\xa3", "voice": b"RIFF", "audio": b"RIFF", "file": b""}
    found = {
        content["type"]: fetched(content["url"]).content for one in there if "url" in (content := one["content"] or {})
    }
    assert set(found) == set(begins)
    for sort, data in found.items():
        assert data.startswith(begins[sort])


def test_reports_wait_for_a_moderator(stack: Stack, world: World, said: str):
    moderator = sign_up(stack)
    moderation.set_moderator(moderator.username, moderator=True)
    found = Counter((one["reporter"], one["subject"]["type"]) for one in moderator.items("/v1/reports"))
    for planned in world.reports:
        assert found[planned.reporter, planned.type] == 1
    assert {planned.type for planned in world.reports} == {"user", "post", "comment"}
    assert "moderator" in said


def test_a_follower_has_a_feed(stack: Stack, world: World, said: str):
    author = world.posts[0].author
    follower = next(pair[0] for pair in world.follows if pair[1] == author and pair not in world.mutes)
    reader = sign_in(stack, follower, PASSWORD)
    feed = wait_until(lambda: reader.get("/v1/feed")["items"])
    followed = {followee for name, followee in world.follows if name == follower} | {follower}
    assert {post.get("reposted_by", post["author"])["username"] for post in feed} <= followed


def test_verify_finds_no_difference(stack: Stack, differences: set[str], said: str):
    wait_until(lambda: {one.key for one in scan.verify().differences} <= differences)


def test_there_are_many_scripts_and_emoji(visitor: Visitor, world: World, said: str):
    posts = [post for one in world.residents for post in visitor.items(f"/v1/users/{one.username}/posts")]
    names = {post["author"]["name"] for post in posts}
    texts = " ".join(post["description"] for post in posts)
    assert len(scripts(" ".join(names))) > 3
    assert len(scripts(texts)) > 3
    assert any(unicodedata.category(letter) == "So" for letter in texts)


def fetched(url: str) -> httpx.Response:
    answer = httpx.get(url, trust_env=False, verify=TLS)
    assert answer.is_success
    return answer


def test_photos_and_films_are_such_and_no_two_are_the_same(visitor: Visitor, world: World, said: str):
    author = world.posts[0].author
    media = [medium for post in visitor.items(f"/v1/users/{author}/posts") for medium in post["media"]]
    seen: set[str] = set()
    for medium in media:
        stills = {medium["placeholder_url"]: 96} | (
            {medium["url"]: medium["width"]} if medium["type"] == "photo" else {}
        )
        for url, width in stills.items():
            answer = fetched(url)
            assert answer.headers["content-type"] == "image/jpeg"
            image = Image.open(io.BytesIO(answer.content))
            image.load()
            assert (image.format, image.width) == ("JPEG", width)
            seen.add(hashlib.sha256(answer.content).hexdigest())
        if medium["type"] == "video":
            answer = fetched(medium["url"])
            assert (answer.headers["content-type"], medium["content_type"]) == ("video/webm", "video/webm")
            assert (answer.content[:4], b"V_VP8" in answer.content) == (b"\x1aE\xdf\xa3", True)
            seen.add(hashlib.sha256(answer.content).hexdigest())
    assert len(seen) == 2 * len(media)
    assert {medium["type"] for medium in media} == {"photo", "video"}


@pytest.mark.parametrize("users", ["0", "-3", "10000"])
def test_a_number_that_cannot_be_is_refused_in_a_line(tmp_path: Path, users: str):
    code, output, complaints = seed(tmp_path, "--users", users)
    assert (code, output, complaints.count("\n")) == (2, "", 1)
    assert "from 1 to 9,999" in complaints


def test_that_no_stack_runs_is_said_in_a_line(tmp_path: Path, stack: Stack):
    code, output, complaints = seed(tmp_path)
    assert (code, output, complaints.count("\n")) == (1, "", 1)
    assert "no stack runs on" in complaints
    assert "what its ready line has as stack=" in complaints
    # One that was killed left its files.
    for name in ("stack.json", "env.json"):
        (tmp_path / name).write_text((stack.data / name).read_text().replace(stack.api, "http://127.0.0.1:9"))
    code, output, complaints = seed(tmp_path / "stack.json")  # as ./dev up prints it
    assert (code, output, complaints.count("\n")) == (1, "", 1)
    assert "does not answer" in complaints
    assert "./dev up" in complaints
