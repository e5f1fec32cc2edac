"""The client that follows: whatever becomes of its socket, it hears all once and in order, or that it may not have."""

import asyncio
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import msgspec
import pytest

from infra.client import Client, Ended, Live, Refused
from infra.local.stack import Stack
from realtime_service import inbox
from realtime_service.protocol import Gone, PostMetrics
from shared.chat.model import Message, TextContent
from shared.kernel import ids, tokens
from shared.live import publish
from shared.posts.model import Post
from tests.chat.talk import friends, text
from tests.client import Format, Person, wait_until
from tests.live.instances import instance
from tests.live.wire import Wire, wire_to


@pytest.fixture
def wire(stack: Stack) -> Iterator[Wire]:
    """A wire to the live service, which knows this Redis though another test may have emptied it just now."""
    asyncio.run(inbox.note_boot())
    with wire_to(stack.live) as there:
        yield there


def client_of(person: Person, format: Format = "json", **session: Any) -> Client:
    """Another device of somebody's: the session is theirs, with these differences."""
    assert person.tokens is not None
    return Client(person.url, format=format, tokens=msgspec.structs.replace(person.tokens, **session))


def id_of(person: Person) -> int:
    return tokens.verify_access(person.session["access_token"]).user_id


def send(person: Person, numbers: range) -> None:
    for number in numbers:
        publish.deliver([id_of(person)], "test.number", b"%d" % number)


def told(live: Live, name: str) -> Any:
    """The data of the next event of this name."""
    return next(event.data for event in live if event.name == name)


def heard_until(live: Live, last: Any) -> list[Any]:
    """The data of all events until this came."""
    heard: list[Any] = []
    while last not in heard:
        heard.append(live.take(30).data)
    return heard


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_events_are_of_the_protocols_types(alice: Person, bob: Person, stack: Stack, format: Format) -> None:
    friends(alice, bob)
    device = client_of(bob, format)
    with Live(device, stack.live) as live:
        post = alice.post_photo("Typed")
        assert told(live, "feed.post_created") == device.get(f"/v1/posts/{post['id']}", into=Post)
        content = {"type": "text", "text": "Hello"}
        said = live.act("send_message", {"username": alice.username, "client_id": "1", "content": content})
        heard = told(live, "message.created")
        assert heard == said
        assert isinstance(heard, Message)
        assert heard.content == TextContent("Hello")
        alice.delete(f"/v1/posts/{post['id']}")
        assert told(live, "feed.post_deleted") == Gone(post["id"])
        live.subscribe(f"post:{bob.post_photo('Counted')['id']}")
        assert told(live, "post.metrics").counts.reactions == 0


@pytest.mark.parametrize("format", ["json", "msgpack"])
@pytest.mark.parametrize("repeats", [False, True], ids=["", "repeating"])
def test_what_is_cut_off_again_and_again_hears_all_once_in_order(
    alice: Person, wire: Wire, format: Format, repeats: bool
) -> None:
    sent = 0
    with Live(client_of(alice, format), wire.url) as live:
        wire.repeats = repeats
        for _ in range(5):
            send(alice, range(sent, sent + 30))
            wire.cut()
            send(alice, range(sent + 30, sent + 40))
            sent += 40
            heard = live.take(30)  # it is back
            assert heard.data == sent - 40
            assert heard_until(live, sent - 1) == list(range(sent - 39, sent))
        wire.cut()
        # A change of the socket, not of what is known: another one goes on from there.
        send(alice, range(sent, sent + 5))
        assert live.take(30).data == sent
        after = live.seq
    with Live(client_of(alice, format), wire.url, after=after) as live:
        assert heard_until(live, sent + 4) == list(range(sent + 1, sent + 5))


def test_who_is_slow_to_resume_hears_all_in_order_too(alice: Person, wire: Wire) -> None:
    # Longer than the service waits: what comes live is then ahead of what was missed.
    wire.delay = 0.6
    ended = threading.Event()
    sent: list[int] = []

    def send_on() -> None:
        for number in count():
            send(alice, range(number, number + 1))
            sent.append(number)
            if ended.wait(0.02):
                return

    with Live(client_of(alice), wire.url) as live, ThreadPoolExecutor(1) as threads:
        sending = threads.submit(send_on)
        try:
            heard = heard_until(live, 5)
            for _ in range(2):
                wire.cut()
                missed = len(sent)
                wait_until(lambda missed=missed: len(sent) > missed + 10)
                heard += heard_until(live, missed + 10)
        finally:
            ended.set()
            sending.result()
        assert heard + heard_until(live, sent[-1]) == list(range(len(sent)))


def test_another_instance_takes_over_and_when_is_as_the_first_advised(
    alice: Person, stack: Stack, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It would not be back in time of its own accord.
    monkeypatch.setattr("infra.client.waiting.FIRST_SECONDS", 1e9)
    monkeypatch.setattr("infra.client.waiting.LONGEST_SECONDS", 1e9)
    with instance(stack) as second:
        wire.target = second.url
        with Live(client_of(alice), wire.url) as live:
            send(alice, range(3))
            assert heard_until(live, 2) == [0, 1, 2]
            wire.target = stack.live
            second.process.send_signal(signal.SIGTERM)
            send(alice, range(3, 6))
            assert second.process.wait(30) == 0
            assert heard_until(live, 5) == [3, 4, 5]


def test_a_killed_instance_that_starts_again_is_found_again(alice: Person, stack: Stack, wire: Wire) -> None:
    with instance(stack) as first:
        wire.target = first.url
        with Live(client_of(alice), wire.url) as live:
            send(alice, range(3))
            assert heard_until(live, 2) == [0, 1, 2]
            first.process.kill()
            send(alice, range(3, 6))
            with instance(stack) as again:
                wire.target = again.url
                assert heard_until(live, 5) == [3, 4, 5]


@pytest.mark.parametrize("by_ticket", [False, True])
def test_tokens_that_have_ended_are_renewed(
    alice: Person, wire: Wire, monkeypatch: pytest.MonkeyPatch, by_ticket: bool
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(tokens, "ACCESS_SECONDS", -1)
        stale, _ = tokens.issue_access(id_of(alice), ids.decode(alice.session["id"]))
    device = client_of(alice, access_token=stale)
    with Live(device, wire.url, by_ticket=by_ticket) as live:
        assert device.tokens is not None
        assert device.tokens.access_token != stale
        for number in range(2):
            send(alice, range(number, number + 1))
            assert live.take(15).data == number
            wire.cut()


def test_the_end_of_the_session_is_the_end(alice: Person, wire: Wire) -> None:
    device = client_of(alice)
    with Live(device, wire.url) as live:
        alice.post("/v1/logout")
        assert live.take(15).name == "session.ended"
        with pytest.raises(Refused) as refused:
            live.take(15)
        assert refused.value.status == 401
        with pytest.raises(Refused):
            live.act("ping")
    with pytest.raises(Refused), Live(device, wire.url):
        pass


def test_more_than_is_kept_is_a_resync_and_it_goes_on_from_there(alice: Person, wire: Wire) -> None:
    with Live(client_of(alice), wire.url) as live:
        send(alice, range(1))
        assert live.take(15).data == 0
        with wire.dead():
            send(alice, range(1, 1500))
        assert live.take(30).name == "resync"
        for number in range(1500, 1503):
            send(alice, range(number, number + 1))
            assert live.take(30).data == number
            wire.cut()
    with Live(client_of(alice), wire.url, after=1) as live:
        assert live.take(15).name == "resync"


def test_topics_are_subscribed_to_anew_but_for_those_that_are_gone(alice: Person, bob: Person, wire: Wire) -> None:
    kept, gone = (f"post:{alice.post_photo(word)['id']}" for word in ("kept", "gone"))
    with Live(client_of(bob), wire.url) as live:
        live.subscribe(gone, kept)
        assert {live.take(15).data.id for _ in range(2)} == {topic.partition(":")[2] for topic in (kept, gone)}
        with pytest.raises(Refused) as refused:
            live.subscribe(kept, "post:0000000000000", "nonsense")
        assert [(fault.field, fault.code) for fault in refused.value.errors] == [("topics[2]", "unknown_topic")]
        assert live.topics == [gone, kept]
        with wire.dead():
            alice.delete(f"/v1/posts/{gone.partition(':')[2]}")
        alice.put(f"/v1/posts/{kept.partition(':')[2]}/reaction", {"emoji": "🔥"})
        counted = next(event.data for event in live if event.name == "post.metrics" and event.data.reactions)
        assert isinstance(counted, PostMetrics)
        assert counted.reactions == {"🔥": 1}
        assert live.topics == [kept]
        live.unsubscribe(kept)
        assert live.topics == []


def test_what_was_asked_is_answered_though_the_socket_was_cut_off_and_done_once(
    alice: Person, bob: Person, wire: Wire
) -> None:
    friends(alice, bob)
    with Live(client_of(alice), wire.url) as live, ThreadPoolExecutor(8) as threads:

        def write(number: int) -> Message:
            body = {"username": bob.username, "client_id": secrets.token_hex(8), "content": text(str(number))}
            return live.act("send_message", body)

        asked = [threads.submit(write, number) for number in range(20)]
        for _ in range(3):
            time.sleep(0.05)
            wire.cut()
        answered = [one.result(30) for one in asked]
        assert [one.content for one in answered] == [TextContent(str(number)) for number in range(20)]
        there = list(bob.items(f"/v1/chats/{alice.username}/messages"))
        assert {one["id"] for one in there} == {one.id for one in answered}
        assert len(there) == 20
        assert {told(live, "message.created").id for _ in answered} == {one.id for one in answered}


def test_who_asks_too_much_at_once_is_answered_all_the_same(alice: Person, wire: Wire) -> None:
    # More than is taken at once: the socket is closed, and what had no answer is asked anew, less fast.
    with Live(client_of(alice), wire.url) as live, ThreadPoolExecutor(80) as threads:
        assert len(list(threads.map(lambda _: live.act("ping").at, range(80)))) == 80
    assert wire.carried > 1


def test_what_is_refused_names_every_fault_and_the_socket_lives(alice: Person, wire: Wire) -> None:
    with Live(client_of(alice), wire.url) as live:
        with pytest.raises(Refused, match="emoji") as refused:
            live.act("react_to_post", {"post_id": 1, "emoji": 1})
        assert [(fault.field, fault.code) for fault in refused.value.errors] == [
            ("post_id", "wrong_type"),
            ("emoji", "wrong_type"),
        ]
        for size in (70_000, 3 << 20):
            with pytest.raises(ConnectionError, match="4413"):
                live.act("ping", {"x": "x" * size})
            assert live.act("ping").at > 0


def test_it_ends_when_it_is_closed_and_waits_for_nothing(alice: Person, wire: Wire) -> None:
    with Live(client_of(alice), wire.url) as live:
        send(alice, range(1))
        assert live.take(15).data == 0
        with pytest.raises(TimeoutError):
            live.take(0.2)
        before = live.seq
        send(alice, range(1, 2))
        wait_until(lambda: live.seq != before)
        live.close()
        assert [event.data for event in live] == [1]
        with pytest.raises(Ended):
            live.act("ping")
    wire.is_dead = True
    impatient = Client(alice.url, tokens=client_of(alice).tokens, patience=0.5)
    with pytest.raises(TimeoutError), Live(impatient, wire.url):
        pass
