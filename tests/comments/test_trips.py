"""What a comment costs, and that it is read without Redis, and at once by who wrote it."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from infra.local.stack import Stack
from shared.comments import lists, projection, reads
from shared.kernel import cache, clock, db, ids, ledger
from shared.kernel.endpoint import Caller, CommentId, Encoded, PostId
from shared.kernel.pages import PageQuery
from tests.client import Person, Visitor, standing_still, trips
from tests.comments.thread import comment, comments, delete, edit, id_of, ids_of, read, replies, reply
from tests.servers import using

INSERT = db.Statement(
    """INSERT INTO comments (id, post_id, post_author_id, author_id, text, created_at)
       SELECT id, :post_id, :author, :author, 'Old', :now FROM unnest(CAST(:ids AS bigint[])) AS made (id)"""
)


def test_writing_is_one_trip_to_postgres(alice: Person, bob: Person) -> None:
    post = alice.post_photo("Hot")
    top = comment(bob, post)
    for path in (f"/v1/posts/{post['id']}/comments", f"/v1/comments/{top['id']}/replies"):
        answer = bob.ask("POST", path, {"text": f"Hello, @{alice.username}"})
        # The guard's trip, and the one that projects what was written.
        assert (answer.status_code, trips(answer, "postgres"), trips(answer, "redis")) == (201, 1, 2)
    answer = bob.ask("PATCH", f"/v1/comments/{top['id']}", {"text": "Again"})
    assert (answer.status_code, trips(answer, "postgres"), trips(answer, "redis")) == (200, 1, 2)


@pytest.mark.parametrize("signed_in", [True, False])
def test_reading_is_two_trips_to_redis(alice: Person, bob: Person, visitor: Visitor, signed_in: bool) -> None:
    reader = bob if signed_in else visitor
    post = alice.post_photo("Warm")
    tops = [comment((alice, bob)[n % 2], post) for n in range(6)]
    below = [reply(alice, tops[0]) for _ in range(3)]
    delete(alice, tops[0])
    paths = [f"/v1/posts/{post['id']}/comments?limit={limit}" for limit in (1, 3, 20)]
    paths += [f"/v1/comments/{tops[0]['id']}{tail}" for tail in ("", "/replies", "/replies?limit=1")]
    paths += [f"/v1/comments/{below[0]['id']}"]
    cursor = reader.get(f"/v1/posts/{post['id']}/comments", limit=5)["next_cursor"]
    paths.append(f"/v1/posts/{post['id']}/comments?limit=5&cursor={cursor}")
    paths += ["/v1/me/commented"] if signed_in else []
    for path in paths:
        reader.get(path)
        answer = reader.ask("GET", path)
        assert (trips(answer, "redis"), trips(answer, "postgres")) == (2, 0), path


def test_what_redis_lost_is_asked_once(alice: Person) -> None:
    post = alice.post_photo("Lost")
    tops = [comment(alice, post) for _ in range(3)]
    path = f"/v1/posts/{post['id']}/comments"
    before = alice.get(path)
    for keys in ([f"comments:{post['id']}"], [f"comment:{one['id']}" for one in tops]):
        cache.run_sync(("DEL", *keys))
        answer = alice.ask("GET", path)
        assert answer.json() == before
        assert trips(answer, "postgres") == 1
        assert trips(alice.ask("GET", path), "postgres") == 0
    cache.run_sync(("DEL", f"post:{post['id']}"))
    assert alice.get(path) == before
    cache.run_sync(("DEL", f"post:{post['id']}", f"comment:{tops[0]['id']}"))
    assert read(alice, tops[0]) == tops[0]


def test_many_who_miss_share_one_query(alice: Person, bob: Person) -> None:
    post = alice.post_photo("Wanted")
    for _ in range(3):
        comment(alice, post)
    with ThreadPoolExecutor(30) as threads:

        def ask(_: int) -> int:
            return trips(bob.ask("GET", f"/v1/posts/{post['id']}/comments"), "postgres")

        list(threads.map(ask, range(30)))
        cache.run_sync(("DEL", f"comments:{post['id']}"))
        assert 1 <= sum(threads.map(ask, range(30))) <= 2


def test_reads_go_on_without_redis(alice: Person, bob: Person) -> None:
    post = alice.post_photo("Down")
    tops = [comment(bob, post, f"Number {n}") for n in range(5)]
    below = reply(alice, tops[0])
    delete(bob, tops[0])
    pages = [alice.get(f"/v1/posts/{post['id']}/comments", limit=limit) for limit in (2, 20)]
    expected = [*pages, alice.get(f"/v1/comments/{tops[0]['id']}/replies"), read(alice, tops[0]), read(alice, below)]
    expected.append(alice.get("/v1/me/commented"))
    viewer, post_id = Caller(id_of(alice), 0), PostId(ids.decode(post["id"]))
    top, reply_id = CommentId(ids.decode(tops[0]["id"])), CommentId(ids.decode(below["id"]))

    async def answers() -> list[Encoded]:
        found = [await reads.of_post(viewer, post_id, PageQuery(limit)) for limit in (2, 20)]
        found += [await reads.replies(viewer, top, PageQuery()), await reads.comment(viewer, top)]
        found += [await reads.comment(viewer, reply_id), await lists.commented(viewer, PageQuery())]
        assert (await reads.of_post(None, post_id, PageQuery())).json
        return found

    with using({"REDIS_URL": "redis://127.0.0.1:1"}):  # nobody listens there
        assert [msgspec.json.decode(one.json) for one in asyncio.run(answers())] == expected


class TestOwnWrites:
    @pytest.fixture(autouse=True)
    def nothing_behind(self, stack: Stack, alice: Person, bob: Person) -> Iterator[None]:
        with standing_still(stack, "background", "relay"):
            yield

    def test_what_is_said_is_read_at_once(self, alice: Person, bob: Person) -> None:
        post = alice.post_photo("Now")
        assert comments(bob, post) == []
        first, second = comment(bob, post, "One"), comment(alice, post, "Two")
        assert comments(bob, post) == [second, first]
        assert ids_of(bob.get("/v1/me/commented")["items"]) == [post["id"]]
        assert bob.get(f"/v1/posts/{post['id']}")["counts"]["comments"] == 2
        assert replies(bob, first) == []
        below = [reply(alice, first, "A"), reply(bob, first, "B")]
        assert replies(bob, first) == below[::-1]
        first = read(bob, first)
        assert first["counts"]["replies"] == 2
        assert comments(bob, post) == [second, first]
        second = edit(alice, second, "Three")
        assert comments(bob, post) == [second, first]
        delete(alice, second)
        assert comments(bob, post) == [first]
        delete(bob, first)
        assert comments(bob, post)[0]["author"] is None
        delete(alice, below[0])
        assert comments(bob, post)[0]["counts"]["replies"] == 1
        delete(bob, below[1])
        assert comments(bob, post) == []
        assert bob.get("/v1/me/commented")["items"] == []
        assert bob.get(f"/v1/posts/{post['id']}")["counts"]["comments"] == 0


def insert_comments(author: Person, post: str, count: int) -> list[str]:
    """Comments put straight into Postgres, older than others of their post; newest first."""
    first = (clock.now_ms() - ids.EPOCH_MS - 86_400_000) << ids.RANDOM_BITS
    made = [first + n for n in range(count)]
    with db.connection() as conn:
        INSERT.run(conn, post_id=ids.decode(post), author=id_of(author), ids=made, now=clock.now_ms())
    return [ids.encode(one) for one in reversed(made)]


def test_paging_goes_on_beyond_what_redis_keeps(alice: Person) -> None:
    post = alice.post_photo("Long")
    older = insert_comments(alice, post["id"], projection.LISTS.keep + 30)
    newest = [comment(alice, post)["id"] for _ in range(2)]
    assert ids_of(comments(alice, post, 100)) == [*newest[::-1], *older]
    delete(alice, {"id": older[5]})
    assert ids_of(comments(alice, post, 100)) == [*newest[::-1], *older[:5], *older[6:]]


def test_what_is_told_is_one_query_each(alice: Person, bob: Person) -> None:
    post = alice.post_photo("Told")
    for parent, most in ((comment(bob, post), 4), (comment(alice, post), 3)):  # the owner is told of the reply alone
        below = reply(bob, parent)
        counted = ledger.open_ledger()
        assert reads.told_of(ids.decode(below["id"]))
        assert counted["postgres"].trips == most


def test_many_at_once_lose_nothing(alice: Person, person: Callable[[], Person]) -> None:
    """Comments, replies and deletions at once: nobody waits for another for ever, and what is counted is there."""
    people = [alice, person(), person()]
    post = alice.post_photo("Busy")
    tops = [comment(alice, post) for _ in range(3)]
    with ThreadPoolExecutor(12) as threads:
        below = list(threads.map(lambda n: reply(people[n % 3], tops[n % 3], f"{n}"), range(30)))
        doomed = [*below[::2], *tops]
        made = threads.map(lambda n: comment(people[n % 3], post), range(15))
        touched = [f"/v1/posts/{post['id']}/reaction", *(f"/v1/comments/{one['id']}/reaction" for one in below[1::2])]
        reacted = threads.map(
            lambda n: people[n % 3].ask("PUT", touched[n % len(touched)], {"emoji": "👍"}).status_code, range(24)
        )
        answers = threads.map(lambda one: alice.ask("DELETE", f"/v1/comments/{one['id']}").status_code, doomed)
        late = threads.map(
            lambda n: (
                people[n % 3].ask("POST", f"/v1/comments/{tops[n % 3]['id']}/replies", {"text": "Late"}).status_code
            ),
            range(15),
        )
        assert set(answers) == {204}
        assert set(late) <= {201, 404, 409}
        assert len(list(made)) == 15
        assert set(reacted) == {200}
    listed = comments(alice, post, 100)
    for one in listed:
        found = replies(alice, one, 100)
        assert one["counts"]["replies"] == len(found)
        assert one["deleted_at"] is None or found
    assert {one["id"] for one in tops} <= {one["id"] for one in listed}


def test_the_last_two_replies_deleted_at_once_take_the_tombstone_along(alice: Person) -> None:
    post = alice.post_photo("Race")
    with ThreadPoolExecutor(2) as threads:
        for _ in range(10):
            top = comment(alice, post)
            below = [reply(alice, top) for _ in range(2)]
            delete(alice, top)
            list(threads.map(lambda one: delete(alice, one), below))
            assert comments(alice, post) == []
