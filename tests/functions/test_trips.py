"""Round trips, counted for every target that reads and every one that is written often: a new one is held to it too."""

import re
from typing import Any

import pytest

from infra import targets
from infra.local.stack import Stack
from shared.kernel.endpoint import ENDPOINTS, Endpoint
from tests.client import Person, Visitor, decoded, sign_up, trips, wait_until

targets.load()

# How many trips to Postgres a read may take when warm, where that is not none, and why.
ASKS_POSTGRES = {
    "get_me": (
        5,
        "shows what its owner alone sees, which nothing else would keep in Redis; each feature is asked once",
    ),
    "list_sessions": (1, "is looked at once in a while, and says what ends sessions: it has to be the truth"),
    "list_reports": (3, "is for a few moderators"),
}
# Relations to a user, post, comment or message, and what is said below one or to somebody: what people do all day.
_OFTEN = re.compile(r"/v1/(posts|comments|users|messages)/\{\w+\}/\w+|/v1/chats/\{\w+\}/messages")
READS = {name: one for name, one in ENDPOINTS.items() if one.method == "GET"}
HOT_WRITES = {name: one for name, one in ENDPOINTS.items() if one.method != "GET" and _OFTEN.fullmatch(one.path)}
BODIES = {
    "reaction": {"emoji": "🦊"},
    "comments": {"text": "Hot"},
    "replies": {"text": "Hot too"},
    "messages": {"client_id": "hot", "content": {"type": "text", "text": "Hot"}},
}


class Scene:
    """Two who have done all there is to do with each other's, so that no list is empty."""

    def __init__(self, stack: Stack) -> None:
        self.owner, self.reader, blocked, muted = (sign_up(stack) for _ in range(4))
        self.visitor = Visitor(stack.api)
        reader, owner = self.reader, self.owner
        reader.put(f"/v1/users/{blocked.username}/block")
        reader.put(f"/v1/users/{muted.username}/mute")
        reader.follow(owner.username)
        owner.follow(reader.username)
        self.post = owner.post_photo(f"Warm, @{reader.username}")["id"]
        self.comment = reader.post(f"/v1/posts/{self.post}/comments", {"text": "Yes"})["id"]
        for act in ("reaction", "save", "repost"):
            reader.put(f"/v1/posts/{self.post}/{act}", BODIES.get(act))
        owner.post(f"/v1/comments/{self.comment}/replies", {"text": "Indeed"})
        owner.put(f"/v1/comments/{self.comment}/reaction", BODIES["reaction"])
        with reader.live() as live:
            message = {"client_id": "warm", "content": {"type": "text", "text": "Warm"}}
            self.message = owner.post(f"/v1/chats/{reader.username}/messages", message)["id"]
            live.event("message.created")
        # What is heard of it all later would end what a read has built.
        told = {"mention", "follow", "reply", "reaction"}
        wait_until(lambda: {one["type"] for one in reader.get("/v1/notifications")["items"]} == told)

    def path(self, one: Endpoint) -> str:
        named = {"post_id": self.post, "comment_id": self.comment, "message_id": self.message}
        return one.path.format(username=self.owner.username, **named)


@pytest.fixture(scope="module")
def scene(stack: Stack) -> Scene:
    return Scene(stack)


def test_what_is_excused_is_there() -> None:
    assert ASKS_POSTGRES.keys() <= READS.keys()


@pytest.mark.parametrize("who", ["reader", "visitor"])
@pytest.mark.parametrize("name", sorted(READS))
def test_a_warm_read_is_two_trips_to_redis_and_none_to_postgres(scene: Scene, name: str, who: str) -> None:
    one, most = READS[name], ASKS_POSTGRES.get(name, (0, ""))[0]
    asking: Person | Visitor = getattr(scene, who)
    queries = ("", "?limit=1") if one.page_of is not None else ("",)
    for path in [scene.path(one) + query for query in queries]:
        wait_until(lambda path=path: trips(asking.ask("GET", path), "postgres") <= most)
        answer = asking.ask("GET", path)
        spent = answer.headers["server-timing"]
        assert trips(answer, "postgres") <= most, spent
        assert trips(answer, "redis") <= 2, spent
        assert trips(answer, "storage") == 0, spent
        if who == "visitor" and one.auth == "caller":
            assert (answer.status_code, trips(answer, "redis")) == (401, 0), spent
        elif not one.forbids:
            assert answer.status_code == 200
            assert trips(answer, "redis") >= 1, spent
            assert one.page_of is None or decoded(answer)["items"]


@pytest.mark.parametrize("name", sorted(HOT_WRITES))
def test_a_hot_write_is_one_trip_to_postgres(scene: Scene, name: str) -> None:
    one = HOT_WRITES[name]
    path, part = scene.path(one), one.path.rpartition("/")[2]
    undone = {"PUT": "DELETE", "DELETE": "PUT"}.get(one.method)
    for _ in range(2 if undone is None else 1):
        if undone is not None:
            before = scene.reader.ask(undone, path, _body(undone, part))
            assert before.status_code == 200, before.text
        answer = scene.reader.ask(one.method, path, _body(one.method, part))
        assert answer.status_code == one.status, answer.text
        assert trips(answer, "postgres") == 1, answer.headers["server-timing"]
        assert trips(answer, "redis") <= 2, answer.headers["server-timing"]
    if name in ("block", "unblock"):
        scene.reader.delete(path)


def _body(method: str, part: str) -> Any:
    return None if method == "DELETE" else BODIES.get(part)
