"""Messages are heard live in the order in which they were sent, whatever order their events come in."""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

from infra.local.stack import Stack
from shared.chat import live as telling
from shared.chat.model import MessageEdited, MessageSent
from shared.kernel import cache, ids
from shared.live import publish
from tests.chat.talk import friends, history, text, write
from tests.client import Live, Person, standing_still
from tests.feed.merging import id_of
from tests.heard import wait_until_heard
from tests.live.devices import bad_day

SENT = 60
AT_ONCE = 6
PATIENCE_SECONDS = 60.0


def created(events: list[dict[str, Any]]) -> list[str]:
    return [event["data"]["id"] for event in events if event["event"] == "message.created"]


def test_all_devices_hear_a_busy_chat_in_order(stack: Stack, alice: Person, bob: Person) -> None:
    friends(alice, bob)
    senders = [person.speaking("json") for person in (alice, bob) for _ in range(AT_ONCE // 2)]

    def send(sender: Person) -> list[str]:
        to = alice if sender.username == bob.username else bob
        return [write(sender, to, f"Number {number}")["id"] for number in range(SENT // AT_ONCE)]

    with ExitStack() as opened:
        devices = [opened.enter_context(person.live()) for person in (alice, bob, alice, bob)]
        opened.enter_context(bad_day(stack, duplicate=0.5, reorder=0.5))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            sent = sorted(itertools.chain.from_iterable(pool.map(send, senders)))
        assert sent == [message["id"] for message in reversed(history(alice, bob))]
        for device in devices:
            while len(created(device.events)) < SENT:
                device.receive(PATIENCE_SECONDS)
        wait_until_heard(stack)
        for device in devices:
            assert created(device.drain()) == sent


class Talk:
    """Bob writes to alice while nobody is told, and then this process tells, event by event."""

    def __init__(self, alice: Person, bob: Person, hers: Live, his: Live):
        self.alice, self.bob = alice, bob
        self.devices = {"alice": hers, "bob": his}
        self.sent: list[str] = []

    def write(self, count: int = 1) -> None:
        self.sent += [write(self.bob, self.alice, "Hello")["id"] for _ in range(count)]

    def tell(self, number: int, kind: type[MessageSent] | type[MessageEdited] = MessageSent) -> None:
        telling.push_message(kind(id_of(self.bob), id_of(self.alice), ids.decode(self.sent[number])))

    def heard(self, by: str = "alice") -> list[int]:
        """The numbers of what was told as new until now."""
        end = f"test.end.{ids.new_id()}"
        publish.deliver([id_of(self.alice), id_of(self.bob)], end, b"null")
        self.devices[by].event(end)
        return [self.sent.index(one) for one in created(self.devices[by].events)]


@contextmanager
def talking(stack: Stack, alice: Person, bob: Person) -> Iterator[Talk]:
    with alice.live() as hers, bob.live() as his, standing_still(stack, "background", "relay"):
        yield Talk(alice, bob, hers, his)


def test_whichever_event_comes_first_tells_of_those_before(stack: Stack, alice: Person, bob: Person) -> None:
    friends(alice, bob)
    with talking(stack, alice, bob) as talk:
        talk.write(5)
        talk.tell(2)
        assert talk.heard("alice") == talk.heard("bob") == [0, 1, 2]
        for number in (0, 2, 1):
            talk.tell(number)
        assert talk.heard() == [0, 1, 2]
        talk.tell(4, MessageEdited)
        talk.tell(3)
        assert talk.heard("alice") == talk.heard("bob") == [0, 1, 2, 3, 4]


def test_two_tell_at_once(stack: Stack, alice: Person, bob: Person) -> None:
    friends(alice, bob)
    with talking(stack, alice, bob) as talk, ThreadPoolExecutor(AT_ONCE) as pool:
        talk.write(12)
        list(pool.map(talk.tell, [11, 3, 7, 0, 11, 5, 1, 10, 8, 2, 9, 4, 6]))
        assert talk.heard("alice") == talk.heard("bob") == list(range(12))


def test_what_is_not_for_one_of_them_stops_nothing(stack: Stack, alice: Person, bob: Person) -> None:
    friends(alice, bob)
    with talking(stack, alice, bob) as talk:
        talk.write(4)
        alice.delete(f"/v1/messages/{talk.sent[1]}")
        bob.delete(f"/v1/messages/{talk.sent[2]}?for=everyone")
        talk.tell(3)
        assert (talk.heard("alice"), talk.heard("bob")) == ([0, 2, 3], [0, 1, 2, 3])
        gone = [event["data"] for event in talk.devices["alice"].events if event["event"] == "message.created"][1]
        assert (gone["content"], gone["deleted_at"] is None) == (None, False)
        for number in range(4):
            talk.tell(number)
        assert (talk.heard("alice"), talk.heard("bob")) == ([0, 2, 3], [0, 1, 2, 3])


def test_what_was_a_request_or_behind_a_block_is_not_told_later(stack: Stack, alice: Person, bob: Person) -> None:
    with talking(stack, alice, bob) as talk:
        talk.write(2)
        talk.tell(1)
        alice.put(f"/v1/chats/{bob.username}/accept")
        talk.write()
        alice.put(f"/v1/users/{bob.username}/block")
        talk.tell(2)
        alice.delete(f"/v1/users/{bob.username}/block")
        bob.patch(f"/v1/messages/{talk.sent[2]}", {"content": text("Again")})
        talk.tell(2, MessageEdited)
        talk.write()
        talk.tell(3)
        for number in range(4):
            talk.tell(number)
        assert (talk.heard("alice"), talk.heard("bob")) == ([3], [0, 1, 3])


def test_what_was_told_before_redis_was_lost_is_not_told_again(stack: Stack, alice: Person, bob: Person) -> None:
    friends(alice, bob)
    with talking(stack, alice, bob) as talk:
        talk.write(2)
        talk.tell(1)
        marks = [f"heard:message:{sent}{ids.encode(id_of(one))}" for sent in talk.sent for one in (alice, bob)]
        talk.write()
        # As when Redis was just emptied, and no instance of the live service has noticed yet.
        with standing_still(stack, "live"):
            (floor,) = cache.run_sync(("GET", publish.BOOT_FLOOR))
            cache.run_sync(("DEL", *marks, publish.BOOT_FLOOR))
            talk.tell(2)
            cache.run_sync(("SET", publish.BOOT_FLOOR, floor))
        assert talk.heard() == [0, 1, 2]
