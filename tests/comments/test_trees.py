"""Random conversations: counts, tombstones and pages are as a model has them, whatever order events come in."""

import random
from importlib import import_module
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import main
from infra.local.stack import Stack
from shared.comments.model import CommentCreated, CommentDeleted, CommentEdited
from shared.kernel import cache, db, ids
from shared.kernel.events import REACTIONS, Event
from shared.profiles.store import IdRow
from tests.client import Person, sign_up, wait_until
from tests.comments.thread import comment, comments, delete, edit, id_of, read, replies, reply, status

HEARD = ("project_comments", "notify_of_comment")
OUTBOX = db.Statement("SELECT count(*) FROM outbox", IdRow)
ACTS = st.lists(
    st.tuples(
        st.sampled_from(["comment", "reply", "reply", "delete", "delete", "edit"]),
        st.integers(0, 2),
        st.integers(0, 99),
    ),
    min_size=4,
    max_size=18,
)


class Node:
    """A comment of the model."""

    def __init__(self, made: dict[str, Any], author: Person, parent: "Node | None"):
        self.made = made
        self.author = author
        self.parent = parent
        self.children: list[Node] = []
        self.deleted = False

    def shown(self) -> bool:
        return not self.deleted or any(child.shown() for child in self.children)


class Talk:
    """A post, and what is said below it: through the API and in a model at once, with the events that this makes."""

    def __init__(self, people: list[Person]):
        self.people = people
        self.post = people[0].post_photo("Talk")
        self.nodes: list[Node] = []
        self.log: list[Event] = []

    def act(self, name: str, who: int, which: int) -> None:
        person = self.people[who]
        live = [node for node in self.nodes if not node.deleted]
        if name == "comment" or not live:
            self._add(comment(person, self.post, f"@{self.people[which % 3].username}"), person, None)
            return
        node = live[which % len(live)]
        if name == "reply":
            self._add(reply(person, node.made, f"@{self.people[which % 3].username}"), person, node)
        elif name == "edit":
            before = read(node.author, node.made)["mentions"]
            edit(node.author, node.made, f"@{self.people[who].username} {which}")
            self.log.append(CommentEdited(ids.decode(node.made["id"]), before))
        else:
            delete(self.people[0] if who == 0 else node.author, node.made)
            node.deleted = True
            above: list[int] = []
            up = node
            while up.parent is not None and not up.shown():
                up = up.parent
                above.append(ids.decode(up.made["id"]))
            self.log.append(
                CommentDeleted(ids.decode(node.made["id"]), ids.decode(self.post["id"]), id_of(node.author), above)
            )

    def _add(self, made: dict[str, Any], author: Person, parent: Node | None) -> None:
        node = Node(made, author, parent)
        self.nodes.append(node)
        if parent is not None:
            parent.children.append(node)
        parent_id = None if parent is None else ids.decode(parent.made["id"])
        self.log.append(CommentCreated(ids.decode(made["id"]), ids.decode(self.post["id"]), id_of(author), parent_id))

    def check(self) -> None:
        """What is read is what the model has."""
        reader = self.people[1]
        live = sum(not node.deleted for node in self.nodes)
        assert reader.get(f"/v1/posts/{self.post['id']}")["counts"]["comments"] == live
        tops = [node for node in self.nodes if node.parent is None and node.shown()]
        assert self._ids(comments(reader, self.post, 3)) == self._newest(tops)
        for node in self.nodes:
            if not node.shown():
                assert status(reader, node.made) == status(reader, node.made, "GET", "/replies") == 404
                continue
            below = [child for child in node.children if child.shown()]
            found = read(reader, node.made)
            assert found["counts"]["replies"] == len(below)
            assert (found["deleted_at"] is None, found["author"] is None) == (not node.deleted, node.deleted)
            assert self._ids(replies(reader, node.made, 3)) == self._newest(below)

    @staticmethod
    def _ids(found: list[dict[str, Any]]) -> list[str]:
        return [one["id"] for one in found]

    @staticmethod
    def _newest(nodes: list[Node]) -> list[str]:
        return sorted((node.made["id"] for node in nodes), reverse=True)

    def view(self) -> list[Any]:
        """All that each of them sees."""
        seen: list[Any] = []
        for person in self.people:
            seen += [comments(person, self.post, 100), person.get(f"/v1/posts/{self.post['id']}")]
            seen += [person.ask("GET", f"/v1/comments/{node.made['id']}").json().get("text") for node in self.nodes]
            seen += [replies(person, node.made, 100) for node in self.nodes if node.shown()]
            seen += [person.get("/v1/notifications", limit=100)["items"], person.get("/v1/me/commented")]
        return seen


@pytest.fixture(scope="module")
def people(stack: Stack) -> list[Person]:
    for module in main.EVENT_TARGETS:
        import_module(module)
    return [sign_up(stack) for _ in range(3)]


@given(acts=ACTS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_counts_and_tombstones_are_those_of_a_model(people: list[Person], acts: list[tuple[str, int, int]]) -> None:
    talk = Talk(people)
    for act in acts:
        talk.act(*act)
    talk.check()
    cache.run_sync(("FLUSHDB",))
    talk.check()


def outbox_is_empty() -> bool:
    with db.connection() as conn:
        return OUTBOX.one(conn).id == 0


@given(acts=ACTS, order=st.randoms(use_true_random=False))
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_shuffled_and_repeated_events_end_where_a_rebuild_ends(
    people: list[Person], acts: list[tuple[str, int, int]], order: random.Random
) -> None:
    talk = Talk(people)
    for act in acts:
        talk.act(*act)
    wait_until(outbox_is_empty)
    told = wait_until(lambda: settled(talk))
    again = talk.log * 2
    order.shuffle(again)
    for event in again:
        for name in HEARD:
            if type(event) in REACTIONS[name].events:
                REACTIONS[name].function(event)
    wait_until(outbox_is_empty)
    # What is heard again is no news either: who was told is told the same, and of nothing twice.
    assert wait_until(lambda: settled(talk)) == told
    cache.run_sync(("FLUSHDB",))
    assert talk.view() == told


def settled(talk: Talk) -> list[Any]:
    """What all see, once it has stopped changing; empty until then."""
    first = talk.view()
    return first if outbox_is_empty() and talk.view() == first else []


Step = tuple[int, str, int]
STEPS = st.lists(
    st.tuples(
        st.integers(1, 3), st.sampled_from(["nothing", "insert", "delete", "delete", "bury", "lose"]), st.integers(0, 5)
    ),
    max_size=6,
)


@pytest.mark.parametrize("nested", [False, True])
@given(steps=STEPS)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_existed_throughout_is_seen_once_in_order(people: list[Person], nested: bool, steps: list[Step]) -> None:
    alice, bob = people[:2]
    post = alice.post_photo("Pages")
    subject = comment(alice, post) if nested else post
    path = f"/v1/comments/{subject['id']}/replies" if nested else f"/v1/posts/{subject['id']}/comments"

    def insert() -> dict[str, Any]:
        made = reply(bob, subject) if nested else comment(bob, subject)
        there.insert(0, made)
        return made

    there: list[dict[str, Any]] = []
    for _ in range(6):
        insert()
    start = [one["id"] for one in there]
    seen: list[str] = []
    cursor: dict[str, str] = {}
    for limit, act, index in [*steps, *[(2, "nothing", 0)] * 20]:
        page = alice.get(path, limit=limit, **cursor)
        seen += [one["id"] for one in page["items"]]
        if page["next_cursor"] is None:
            break
        assert len(page["items"]) == limit
        cursor = {"cursor": page["next_cursor"]}
        if act == "insert":
            insert()
        elif act == "delete" and there:
            delete(bob, there.pop(index % len(there)))
        elif act == "bury" and there:
            # A tombstone stays where the comment was.
            buried = there[index % len(there)]
            reply(bob, buried)
            delete(bob, buried)
            there.remove(buried)
        elif act == "lose":
            cache.run_sync(("DEL", f"comments:{subject['id']}"))
    else:
        raise AssertionError("the list has no end")
    now = [one["id"] for one in alice.items(path, limit=100)]
    throughout = [one for one in start if one in now]
    assert [one for one in seen if one in throughout] == throughout
    assert seen == sorted(set(seen), reverse=True)
