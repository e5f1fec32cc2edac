"""`./dev verify` finds nothing where nothing is wrong, and everything that is."""

from collections.abc import Callable, Iterator

import pytest

import infra.verify
from infra.local.stack import Stack
from infra.verify import scan
from infra.verify.kinds import ALL, GRAPH_FOLLOWS, GRAPH_USERS, UNKNOWN, follow_key
from infra.verify.scan import Difference
from shared.feed.model import FEEDS
from shared.feed.store import IS_SETTLED
from shared.kernel import cache, db, graph, ids
from shared.kernel.projection import put, put_fields
from shared.profiles import reads as profiles
from tests.chat.talk import write
from tests.client import Person, sign_up, wait_until
from tests.feed.posts import insert_posts
from tests.heard import wait_until_heard

END_SESSION = db.Statement("UPDATE sessions SET ended_at = 1 WHERE id = :id")
MERGE = db.Statement("INSERT INTO merged_authors (user_id, rise_id, settled) VALUES (:id, 1, true)")
GHOST = "CREATE (:User {id: $id, username: 'ghost'})"
RENAME = "MATCH (u:User {id: $id}) SET u.username = 'someone_else'"
CUT = "MATCH (:User {id: $one})-[f:FOLLOWS]->(:User {id: $other}) DELETE f"
TIE = "MATCH (a:User {id: $one}), (b:User {id: $other}) CREATE (a)-[:FOLLOWS {version: 1}]->(b)"


class World:
    """Some who follow, post, mention and delete, and have read it all."""

    def __init__(self, stack: Stack) -> None:
        # What other tests left on the stack is for test_after_all.py to judge.
        self.of_others = {one.key for one in scan.verify().differences}
        self.people = [sign_up(stack) for _ in range(3)]
        self.leaver = sign_up(stack)
        self.ids = [profiles.named([person.username])[person.username] for person in self.people]
        self.names = [ids.encode(user_id) for user_id in self.ids]
        one, two, three = self.people
        self.merged = self._merged_author(one)
        two.follow(one.username)
        three.follow(one.username)
        three.follow(two.username)
        three.delete(f"/v1/users/{two.username}/follow")
        self.posts = [one.post_photo(f"Number {n} for @{two.username}", seed=n)["id"] for n in range(3)]
        one.delete(f"/v1/posts/{self.posts.pop()}")
        wait_until(lambda: len(two.get("/v1/notifications")["items"]) == 2 and len(two.get("/v1/feed")["items"]) == 2)
        path = f"/v1/posts/{self.posts[0]}"
        two.put(f"{path}/reaction", {"emoji": "🌻"})
        two.put(f"{path}/save")
        two.put(f"{path}/repost")
        self.comment = two.post(f"{path}/comments", {"text": "Seen"})["id"]
        three.post(f"/v1/comments/{self.comment}/replies", {"text": "Too"})
        one.put(f"/v1/comments/{self.comment}/reaction", {"emoji": "🌻"})
        # A request to the one, and a friend's to the other.
        write(two, one, "Hello")
        write(one, three, "Hello")
        three.put(f"/v1/users/{self.leaver.username}/block")
        three.put(f"/v1/users/{two.username}/mute")
        wait_until(lambda: {group["type"] for group in two.get("/v1/notifications")["items"]} > {"mention", "reply"})
        # What is told a second after what was told before drops what is planted.
        wait_until_heard(stack)
        self.read_it_all()
        wait_until(lambda: graph.read("MATCH (u:User {id: $id}) RETURN u.id", id=self.ids[2]))

    def _merged_author(self, follower: Person) -> str:
        """The id of an author who has posted, is followed, and is merged into feeds on read."""
        author = sign_up(follower.stack)
        author.post_photo("To many")
        user_id = profiles.named([author.username])[author.username]
        with db.connection() as conn:
            MERGE.run(conn, id=user_id)
        follower.follow(author.username)
        # Whoever has few followers is merged no more once a follow is heard of.
        wait_until(lambda: not merged(user_id))
        with db.connection() as conn:
            MERGE.run(conn, id=user_id)
        cache.run_sync(FEEDS.forget(self.ids[0]))
        return ids.encode(user_id)

    def read_it_all(self) -> None:
        """So that Redis holds it, also what was taken from it meanwhile."""
        for person in self.people:
            for other in self.people:
                if other is not person:
                    person.get(f"/v1/chats/{other.username}/messages")
                for part in ("", "/posts", "/followers", "/following"):
                    person.get(f"/v1/users/{other.username}{part}")
            for post in self.posts:
                for part in ("", "/comments", "/reactions", "/reposts"):
                    person.get(f"/v1/posts/{post}{part}")
            for part in ("", "/replies", "/reactions"):
                person.get(f"/v1/comments/{self.comment}{part}")
            for part in ("saved", "reacted", "mentioned", "commented", "blocked", "muted"):
                person.get(f"/v1/me/{part}")
            person.get("/v1/feed")
            person.get("/v1/notifications")
            for box in ("inbox", "requests"):
                person.get("/v1/chats", box=box)


def merged(user_id: int) -> bool:
    with db.connection() as conn:
        return IS_SETTLED.maybe(conn, user_id=user_id) is not None


@pytest.fixture(scope="module")
def world(stack: Stack) -> World:
    return World(stack)


@pytest.fixture(autouse=True)
def _as_it_was(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # What is planted here stays: nothing else is on its way.
    monkeypatch.setattr(scan, "PAUSES", (0.3, 0.7))
    world.read_it_all()
    yield
    scan.repair(differences(world))
    cache.run_sync(("DEL", f"novelty:{world.names[0]}"))


def differences(world: World) -> list[Difference]:
    return [one for one in scan.verify().differences if one.key not in world.of_others]


def test_nothing_differs_after_a_busy_story(world: World) -> None:
    assert differences(world) == []
    assert scan.verify().compared.keys() >= ALL.keys() - {UNKNOWN}


def a_card_of_another_time(world: World) -> str:
    cache.run_sync(put(f"card:{world.names[0]}", 10**9, b'{"username":"x"}'))
    return f"card:{world.names[0]}"


def a_count_that_is_off(world: World) -> str:
    key = f"profile:{world.names[0]}"
    (value,) = cache.run_sync(("GET", key))
    assert b'"followers":2' in value
    cache.run_sync(("SET", key, value.replace(b'"followers":2', b'"followers":3')))
    return key


def a_name_that_leads_elsewhere(world: World) -> str:
    cache.run_sync(("SET", f"username:{world.people[0].username}", world.names[1]))
    return f"username:{world.people[0].username}"


def a_deleted_post_that_is_there(world: World) -> str:
    key = f"post:{ids.encode(ids.new_id())}"
    cache.run_sync(put(key, 1, world.names[0].encode() + b"{}"))
    return key


def a_post_that_a_list_lacks(world: World) -> str:
    cache.run_sync(("ZREM", f"posts:{world.names[0]}", world.posts[0]))
    return f"posts:{world.names[0]}"


def a_post_that_a_feed_lacks(world: World) -> str:
    cache.run_sync(("ZREM", f"feed:{world.names[1]}", world.posts[0] * 2 + world.names[0]))
    return f"feed:{world.names[1]}"


def a_block_that_is_forgotten(world: World) -> str:
    key = f"relations:{world.names[2]}"
    cache.run_sync(put_fields(key, [("!" + world.names[1], 9, b"b")]))
    return key


def news_that_are_none(world: World) -> str:
    key = f"notifications:{world.names[1]}"
    cache.run_sync(("SET", key, b"\x90"))
    return key


def a_session_that_goes_on(world: World) -> str:
    with db.connection() as conn:
        END_SESSION.run(conn, id=ids.decode(world.leaver.session["id"]))
    return f"session:{world.leaver.session['id']}"


def a_user_whom_the_graph_calls_otherwise(world: World) -> str:
    graph.write(RENAME, id=world.ids[0])
    return world.names[0]


def a_follow_that_the_graph_lacks(world: World) -> str:
    graph.write(CUT, one=world.ids[1], other=world.ids[0])
    return follow_key((world.ids[1], world.ids[0]))


def a_kind_of_key_that_nobody_knows(world: World) -> str:
    cache.run_sync(("SET", f"novelty:{world.names[0]}", "1"))
    return f"novelty:{world.names[0]}"


def a_comment_that_never_was(world: World) -> str:
    key = f"comment:{ids.encode(ids.new_id())}"
    cache.run_sync(put(key, 1, world.names[0].encode() * 3 + b"{}"))
    return key


def a_save_that_never_was(world: World) -> str:
    key = f"engaged:{world.names[0]}"
    cache.run_sync(put_fields(key, [(world.posts[0], 10**9, b"s-")]))
    return key


def a_place_that_refuses_what_comes(world: World) -> str:
    key = f"placed:{world.names[1]}{world.names[0]}"
    cache.run_sync(("SET", key, f"{10**9:016d}"))
    return key


def a_follower_who_is_none(world: World) -> str:
    key = f"followed_by:{world.names[1]}"
    cache.run_sync(("HSET", key, world.names[0], f"{10**9:016d}f"))
    return key


def lacking_one(name: str, owner: Callable[[World], str]) -> Callable[[World], str]:
    """A list that lacks its newest entry."""

    def plant(world: World) -> str:
        key = f"{name}:{owner(world)}"
        (members,) = cache.run_sync(("ZRANGE", key, 0, -1))
        (newest,) = [member for member in members if member not in (b"~", b"!")][-1:]
        cache.run_sync(("ZREM", key, newest))
        return key

    return plant


def emptied(name: str, owner: Callable[[World], str]) -> Callable[[World], str]:
    """A list that is empty where it should not be."""

    def plant(world: World) -> str:
        cache.run_sync(("SET", f"{name}:{owner(world)}", b"\x90"))
        return f"{name}:{owner(world)}"

    return plant


PLANTED: dict[str, Callable[[World], str]] = {
    "card": a_card_of_another_time,
    "profile": a_count_that_is_off,
    "username": a_name_that_leads_elsewhere,
    "post": a_deleted_post_that_is_there,
    "posts": a_post_that_a_list_lacks,
    "told": lacking_one("told", lambda world: world.merged),
    "feed": a_post_that_a_feed_lacks,
    "relations": a_block_that_is_forgotten,
    "notifications": news_that_are_none,
    "placed": a_place_that_refuses_what_comes,
    "comment": a_comment_that_never_was,
    "comments": lacking_one("comments", lambda world: world.posts[0]),
    "engaged": a_save_that_never_was,
    "followed_by": a_follower_who_is_none,
    "followers": lacking_one("followers", lambda world: world.names[0]),
    "following": lacking_one("following", lambda world: world.names[1]),
    "blocked": lacking_one("blocked", lambda world: world.names[2]),
    "muted": lacking_one("muted", lambda world: world.names[2]),
    "saved": emptied("saved", lambda world: world.names[1]),
    "reacted": emptied("reacted", lambda world: world.names[1]),
    "mentioning": emptied("mentioning", lambda world: world.names[1]),
    "commented": emptied("commented", lambda world: world.names[1]),
    "reactions": emptied("reactions", lambda world: world.posts[0]),
    "reposts": emptied("reposts", lambda world: world.posts[0]),
    "chats": emptied("chats", lambda world: world.names[2]),
    "chat_requests": emptied("chat_requests", lambda world: world.names[0]),
    "accepted": emptied("accepted", lambda world: world.names[1] + world.names[0]),
    "messages": emptied("messages", lambda world: world.names[0] + world.names[1]),
    "session": a_session_that_goes_on,
    GRAPH_USERS: a_user_whom_the_graph_calls_otherwise,
    GRAPH_FOLLOWS: a_follow_that_the_graph_lacks,
    UNKNOWN: a_kind_of_key_that_nobody_knows,
}


def test_every_kind_has_a_planted_difference() -> None:
    assert PLANTED.keys() == ALL.keys()


@pytest.mark.parametrize("kind", PLANTED)
def test_what_differs_is_found_and_repaired(world: World, kind: str) -> None:
    key = PLANTED[kind](world)
    found = differences(world)
    assert [(one.kind, one.key) for one in found] == [(kind, key)]
    assert found[0].has != found[0].says
    scan.repair(found)
    if kind != UNKNOWN:
        assert differences(world) == []


def test_what_the_graph_has_too_much_is_found_and_repaired(world: World) -> None:
    ghost = ids.new_id()
    graph.write(GHOST, id=ghost)
    graph.write(TIE, one=world.ids[0], other=world.ids[2])
    found = differences(world)
    tie = follow_key((world.ids[0], world.ids[2]))
    assert {(one.kind, one.key) for one in found} == {(GRAPH_USERS, ids.encode(ghost)), (GRAPH_FOLLOWS, tie)}
    scan.repair(found)
    assert differences(world) == []


def test_what_postgres_has_and_no_event_told_is_found(world: World) -> None:
    author = world.people[2]
    (post,) = insert_posts(author, 1, days_ago=1)
    found = {(one.kind, one.key) for one in differences(world)}
    assert found >= {("posts", f"posts:{world.names[2]}"), ("feed", f"feed:{world.names[2]}")}
    assert post not in str(author.get(f"/v1/users/{author.username}/posts"))
    scan.repair(differences(world))
    assert author.get(f"/v1/users/{author.username}/posts")["items"][0]["id"] == post


def test_what_a_feed_has_of_those_who_are_hidden_is_no_difference(world: World) -> None:
    # By one who is muted; told by one who isn't, of a post by one who is.
    viewer, muted, other = world.names[2], world.names[1], world.names[0]
    post = world.posts[0]
    entries = (post * 2 + muted, ids.encode(ids.new_id()) + post + muted + other)
    cache.run_sync(("ZADD", f"feed:{viewer}", 0, entries[0], 0, entries[1]))
    assert differences(world) == []
    cache.run_sync(("ZADD", f"feed:{viewer}", 0, ids.encode(ids.new_id()) + post + other * 2))
    assert {one.kind for one in differences(world)} == {"feed"}


def test_a_deleted_post_in_what_was_saved_is_no_difference(world: World) -> None:
    author, reader = world.people[0], world.people[1]
    post = author.post_photo("Soon gone")["id"]
    reader.put(f"/v1/posts/{post}/save")
    assert reader.get("/v1/me/saved")["items"][0]["id"] == post
    key = f"saved:{world.names[1]}"
    before = wait_until(lambda: reader.get("/v1/me/saved") and cache.run_sync(("GET", key))[0])
    author.delete(f"/v1/posts/{post}")
    # As it stays where the event of the save came before the read.
    cache.run_sync(("SET", key, before))
    assert differences(world) == []


def test_the_command_says_what_differs_and_mends_it_when_asked_to(
    world: World, stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", str(stack.data)]
    assert infra.verify.main(data) == 0
    key = a_post_that_a_list_lacks(world)
    assert infra.verify.main(data) == 1
    assert f"posts {key}: there is 1 entries" in capsys.readouterr().out
    assert infra.verify.main([*data, "--repair"]) == 0
    assert "posts: 1 dropped; the next read fills it" in capsys.readouterr().out
    assert infra.verify.main(data) == 0


def test_where_no_stack_runs_it_says_so(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert infra.verify.main(["--data", str(tmp_path)]) == 2
    assert "no stack runs" in capsys.readouterr().err
