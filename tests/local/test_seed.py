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
from pathlib import Path

import httpx
import pytest
from PIL import Image

from infra.local.stack import ROOT, Stack
from infra.seed.world import PASSWORD, World, build
from tests.client import Visitor, sign_in, wait_until

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


def scripts(text: str) -> set[str]:
    return {unicodedata.name(letter).split()[0] for letter in text if letter.isalpha()}


@pytest.fixture(scope="module")
def world() -> World:
    return build(USERS, SEED)


@pytest.fixture(scope="module")
def said(stack: Stack) -> str:
    """What the command printed; it was cut short once before, while it posted, and then run again."""
    first, author = Visitor(stack.api), build(USERS, SEED).posts[0].author
    if not first.ask("GET", f"/v1/users/{author}").is_success:
        cut = start(stack.data, "--users", str(USERS), "--seed", str(SEED))
        wait_until(lambda: first.ask("GET", f"/v1/users/{author}").is_success and posts_of(first, author), 60)
        cut.send_signal(signal.SIGINT)
        output, complaints = cut.communicate(timeout=30)
        stopped = (130, "./dev seed: stopped; run it again for the rest\n")
        # On a busy machine it may have been seen too late.
        assert (cut.returncode, complaints) in (stopped, (0, "")), output
    code, output, complaints = seed(stack.data, "--users", str(USERS), "--seed", str(SEED))
    assert (code, complaints) == (0, ""), output
    return output


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
        planned = Counter((p.type, p.description, len(p.photos)) for p in world.posts if p.author == one.username)
        assert posts_of(visitor, one.username) == planned


def test_a_follower_has_a_feed(stack: Stack, world: World, said: str):
    author = world.posts[0].author
    follower = next(follower for follower, followee in world.follows if followee == author)
    reader = sign_in(stack, follower, PASSWORD)
    feed = wait_until(lambda: reader.get("/v1/feed")["items"])
    followed = {followee for name, followee in world.follows if name == follower} | {follower}
    assert {post["author"]["username"] for post in feed} <= followed


def test_there_are_many_scripts_and_emoji(visitor: Visitor, world: World, said: str):
    posts = [post for one in world.residents for post in visitor.items(f"/v1/users/{one.username}/posts")]
    names = {post["author"]["name"] for post in posts}
    texts = " ".join(post["description"] for post in posts)
    assert len(scripts(" ".join(names))) > 3
    assert len(scripts(texts)) > 3
    assert any(unicodedata.category(letter) == "So" for letter in texts)


def test_the_photos_are_photos_and_no_two_are_the_same(visitor: Visitor, world: World, said: str):
    author = world.posts[0].author
    media = [medium for post in visitor.items(f"/v1/users/{author}/posts") for medium in post["media"]]
    seen: set[str] = set()
    for medium in media:
        for url, width in ((medium["url"], medium["width"]), (medium["placeholder_url"], 96)):
            answer = httpx.get(url, trust_env=False)
            assert answer.headers["content-type"] == "image/jpeg"
            image = Image.open(io.BytesIO(answer.content))
            image.load()
            assert (image.format, image.width) == ("JPEG", width)
            seen.add(hashlib.sha256(answer.content).hexdigest())
    assert len(seen) == 2 * len(media)


@pytest.mark.parametrize("users", ["0", "-3", "10000"])
def test_a_number_that_cannot_be_is_refused_in_a_line(tmp_path: Path, users: str):
    code, output, complaints = seed(tmp_path, "--users", users)
    assert (code, output, complaints.count("\n")) == (2, "", 1)
    assert "from 1 to 9,999" in complaints


def test_that_no_stack_runs_is_said_in_a_line(tmp_path: Path, stack: Stack):
    code, output, complaints = seed(tmp_path)
    assert (code, output, complaints.count("\n")) == (1, "", 1)
    assert "no stack runs on" in complaints
    # One that was killed left its files.
    for name in ("stack.json", "env.json"):
        (tmp_path / name).write_text((stack.data / name).read_text().replace(stack.api, "http://127.0.0.1:9"))
    code, output, complaints = seed(tmp_path)
    assert (code, output, complaints.count("\n")) == (1, "", 1)
    assert "does not answer" in complaints
    assert "./dev up" in complaints
