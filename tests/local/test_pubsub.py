"""The local Pub/Sub, asked with Google's own clients, pushing to real endpoints, killed and started again."""

import itertools
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import httpx
import msgspec
import pytest
from cloudevents.http import from_http
from google.api_core import exceptions
from google.cloud import pubsub_v1
from google.protobuf.duration_pb2 import Duration
from google.pubsub_v1 import PublisherClient as RawPublisher
from google.pubsub_v1 import types

from infra.local import pubsub_history as history
from infra.local.pubsub_store import Message, Store

REPOSITORY = Path(__file__).parents[2]
PROJECT = "projects/test"
HTTP = httpx.Client()
SERIAL = itertools.count()


@dataclass
class Broker:
    """A running broker, and Google's clients of it."""

    process: subprocess.Popen[str]
    address: str
    url: str

    def __post_init__(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PUBSUB_EMULATOR_HOST", self.address)
            self.publisher: Any = pubsub_v1.PublisherClient(pubsub_v1.types.BatchSettings(max_latency=0.002))
            self.subscriber: Any = pubsub_v1.SubscriberClient()

    def topic(self) -> str:
        name = f"{PROJECT}/topics/topic{next(SERIAL)}"
        self.publisher.create_topic(name=name)
        return name

    def subscribe(self, topic: str, endpoint: str = "", function: str = "handle", **more: Any) -> str:
        name = f"{PROJECT}/subscriptions/{topic.rpartition('/')[2]}--{function}"
        push = types.PushConfig(push_endpoint=endpoint)
        self.subscriber.create_subscription(request={"name": name, "topic": topic, "push_config": push} | more)
        return name

    def publish(self, topic: str, *payloads: bytes) -> list[str]:
        return [one.result(10) for one in [self.publisher.publish(topic, p, type="thing_done") for p in payloads]]

    def publish_once(self, topic: str, *messages: dict[str, Any]) -> list[str]:
        """One call, without the client's batches and retries."""
        request = {"topic": topic, "messages": messages}
        return list(RawPublisher.publish(self.publisher, request=request, timeout=5, retry=None).message_ids)

    def pull(self, subscription: str, count: int = 1) -> list[Any]:
        """As many messages, in however many pulls; less if no more come for 5 s."""
        got: list[Any] = []
        while len(got) < count:
            more = self.subscriber.pull(subscription=subscription, max_messages=count - len(got)).received_messages
            if not more:
                break
            got += more
        return got

    def get(self, path: str) -> Any:
        return HTTP.get(f"{self.url}{path}").raise_for_status().json()

    def delivered(self, ids: list[str], function: str = "handle") -> bool:
        """Whether these were acknowledged."""
        rows = self.get("/events.json?limit=1000")["items"]
        return set(ids) <= {r["id"] for r in rows if r["function"] == function and r["outcome"] == "delivered"}

    def settled(self) -> bool:
        """Whether nobody waits for anything; on a broker that is this test's own."""
        return self.get("/healthz")["waiting"] == 0

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(10)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def launch(folder: Path, *flags: str, port: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "infra.local.pubsub", "--port", str(port), "--http-port", "0"]
    command += ["--data", str(folder), *flags]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def start(folder: Path, *flags: str, port: int = 0) -> Broker:
    process = launch(folder, *flags, port=port)
    assert process.stdout is not None
    assert process.stderr is not None
    line = process.stdout.readline()
    assert "listens on" in line, process.stderr.read()
    threading.Thread(target=process.stderr.read, daemon=True).start()  # a full pipe would stop it
    words = line.split()
    return Broker(process, words[3], words[5])


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    running = start(tmp_path_factory.mktemp("pubsub"))
    yield running
    assert running.stop() == 0


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    """Starts brokers for this test alone, all on one folder."""
    started: list[Broker] = []

    def begin(*flags: str, port: int = 0) -> Broker:
        started.append(start(tmp_path / "own", *flags, port=port))
        return started[-1]

    yield begin
    for one in started:
        one.kill()


@dataclass
class Push:
    """One request that an endpoint got, and when."""

    path: str
    event: Any
    at: float

    @property
    def data(self) -> bytes:
        return msgspec.convert(self.event.data["message"]["data"], bytes, strict=False)


@dataclass
class Endpoint:
    """An HTTP server that is pushed to; `answer` says with which status, and may take its time."""

    answer: Callable[[Push], int] = lambda _: 204
    pushes: list[Push] = field(default_factory=list)
    connections: int = 0
    at_once: int = 0
    most_at_once: int = 0

    def __post_init__(self) -> None:
        self._news = threading.Condition()

    def receive(self, path: str, headers: dict[str, str], body: bytes) -> int:
        push = Push(path, from_http(headers, body), time.monotonic())
        with self._news:
            self.pushes.append(push)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            self._news.notify_all()
        try:
            return self.answer(push)
        finally:
            with self._news:
                self.at_once -= 1

    def wait(self, holds: Callable[[], bool], seconds: float = 20) -> None:
        with self._news:
            assert self._news.wait_for(holds, seconds), f"it never came true; {len(self.pushes)} pushes"

    def wait_for(self, count: int) -> list[Push]:
        self.wait(lambda: len(self.pushes) >= count)
        return self.pushes

    def payloads(self) -> Counter[bytes]:
        return Counter(push.data for push in self.pushes)

    @contextmanager
    def serve(self, port: int = 0) -> Iterator[str]:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                endpoint.connections += 1

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status = endpoint.receive(self.path, dict(self.headers.items()), body)
                text = b"" if status == 204 else b"because of this"
                self.send_response(status)
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def eventually(holds: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def retries(least_ms: int, most_ms: int) -> types.RetryPolicy:
    least, most = Duration(), Duration()
    least.FromMilliseconds(least_ms)
    most.FromMilliseconds(most_ms)
    return types.RetryPolicy(minimum_backoff=least, maximum_backoff=most)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# push

HEARER = """
import json, os
import functions_framework

@functions_framework.cloud_event
def hear(event):
    with open({file!r} + ".new", "w") as file:
        json.dump([dict(event.get_attributes()), event.data], file)
    os.replace({file!r} + ".new", {file!r})
"""


def test_functions_framework_takes_what_is_pushed(broker: Broker, tmp_path: Path) -> None:
    told, source = tmp_path / "told", tmp_path / "main.py"
    source.write_text(HEARER.format(file=str(told)))
    port = free_port()
    framework = [str(Path(sys.executable).with_name("functions-framework")), "--source", str(source), "--asgi"]
    process = subprocess.Popen(
        [*framework, "--target", "hear", "--host", "127.0.0.1", "--port", str(port)],
        env=os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        topic = broker.topic()
        subscription = broker.subscribe(topic, f"http://127.0.0.1:{port}/hear", retry_policy=retries(50, 100))
        (id,) = broker.publish(topic, b'{"a":1}')
        eventually(told.exists)
    finally:
        process.terminate()
        process.wait()
    attributes, data = msgspec.json.decode(told.read_bytes())
    assert attributes["id"] == id
    assert attributes["type"] == "google.cloud.pubsub.topic.v1.messagePublished"
    assert attributes["source"] == f"//pubsub.googleapis.com/{topic}"
    assert data["subscription"] == subscription
    assert data["message"]["data"] == "eyJhIjoxfQ=="
    assert data["message"]["attributes"] == {"type": "thing_done"}
    assert data["message"]["messageId"] == id
    assert data["message"]["publishTime"] == attributes["time"]


def test_every_subscription_gets_every_message(broker: Broker) -> None:
    endpoint, topic = Endpoint(), broker.topic()
    with endpoint.serve() as url:
        for function in ("one", "two"):
            broker.subscribe(topic, f"{url}/{function}", function)
        wanted = {(path, f"{i}".encode()) for path in ("/one", "/two") for i in range(50)}
        ids = broker.publish(topic, *(f"{i}".encode() for i in range(50)))
        assert {(push.path, push.data) for push in endpoint.wait_for(100)} == wanted
        eventually(lambda: broker.delivered(ids, "one") and broker.delivered(ids, "two"))
        assert len(endpoint.pushes) == 100


def test_connections_are_kept_and_pushes_limited(broker: Broker) -> None:
    endpoint, topic = Endpoint(lambda _: time.sleep(0.01) or 200), broker.topic()
    with endpoint.serve() as url:
        broker.subscribe(topic, url)
        broker.publish(topic, *(b"x" for _ in range(200)))
        endpoint.wait_for(200)
    assert 8 <= endpoint.most_at_once <= 16
    assert endpoint.connections <= 20


def test_failures_come_again_later_and_later(broker: Broker) -> None:
    endpoint, topic = Endpoint(), broker.topic()
    endpoint.answer = lambda _: 503 if len(endpoint.pushes) < 6 else 200
    with endpoint.serve() as url:
        broker.subscribe(topic, url, retry_policy=retries(50, 300))
        ids = broker.publish(topic, b"x")
        times = [push.at for push in endpoint.wait_for(6)]
        eventually(lambda: broker.delivered(ids))
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    for gap, least, most in zip(gaps, (50, 100, 200, 300, 300), (75, 150, 300, 300, 300), strict=True):
        assert least - 5 <= gap * 1000 < most + 1000  # a busy machine is late, never early
    (row,) = broker.get("/events.json?limit=1")["items"]
    assert row["outcome"] == "delivered"
    assert row["attempts"] == 6


def test_an_endpoint_that_is_down_gets_it_when_it_is_up(broker: Broker) -> None:
    endpoint, topic, port = Endpoint(), broker.topic(), free_port()
    broker.subscribe(topic, f"http://127.0.0.1:{port}/late", retry_policy=retries(50, 100))
    broker.publish(topic, b"x")
    eventually(lambda: broker.get("/events.json?limit=1")["items"][0]["outcome"] == "retrying")
    assert "ConnectorError" in broker.get("/events.json?limit=1")["items"][0]["reason"]
    with endpoint.serve(port):
        assert endpoint.wait_for(1)[0].data == b"x"


def test_a_slow_function_holds_up_no_other(broker: Broker) -> None:
    free = threading.Event()
    endpoint, topic = Endpoint(lambda push: 200 if push.path == "/quick" or free.wait(20) else 500), broker.topic()
    with endpoint.serve() as url:
        broker.subscribe(topic, f"{url}/slow", "slow", ack_deadline_seconds=600)
        broker.subscribe(topic, f"{url}/quick", "quick")
        broker.publish(topic, *(b"%d" % number for number in range(100)))
        # One may come twice where the machine stands still for longer than its deadline.
        endpoint.wait(lambda: len({push.data for push in endpoint.pushes if push.path == "/quick"}) == 100)
        endpoint.wait(lambda: [push.path for push in endpoint.pushes].count("/slow") == 16)
        free.set()
        endpoint.wait(lambda: len({push.data for push in endpoint.pushes if push.path == "/slow"}) == 100)


def test_what_fails_too_often_is_a_dead_letter_and_can_be_sent_again(broker: Broker) -> None:
    endpoint = Endpoint(lambda push: 500 if push.path == "/bad" else 200)
    topic, graves = broker.topic(), broker.topic()
    policy = types.DeadLetterPolicy(dead_letter_topic=graves, max_delivery_attempts=5)
    with endpoint.serve() as url:
        mourner = broker.subscribe(graves)
        bad = broker.subscribe(topic, f"{url}/bad", "bad", retry_policy=retries(10, 20), dead_letter_policy=policy)
        broker.subscribe(topic, f"{url}/good", "good")
        (id,) = broker.publish(topic, b"poison")
        (received,) = broker.pull(mourner)
        assert Counter(push.path for push in endpoint.pushes) == {"/bad": 5, "/good": 1}
        attempts = [push.event.data.get("deliveryAttempt") for push in endpoint.pushes if push.path == "/bad"]
        assert attempts == [1, 2, 3, 4, 5]
        prefix = "CloudPubSubDeadLetterSource"
        attributes = dict(received.message.attributes)
        assert attributes.pop(f"{prefix}TopicPublishTime").endswith("Z")
        assert attributes == {
            "type": "thing_done",
            f"{prefix}DeliveryCount": "5",
            f"{prefix}Subscription": bad.rpartition("/")[2],
            f"{prefix}SubscriptionProject": "test",
            f"{prefix}DeliveryErrorMessage": "500 Internal Server Error: because of this",
        }
        assert received.message.data == b"poison"
        letter = next(one for one in broker.get("/dead-letters.json")["items"] if one["message"] == id)
        assert (letter["type"], letter["function"], letter["attempts"]) == ("thing_done", "bad", 5)
        assert letter["data"] == "poison"
        assert "because of this" in letter["reason"]
        row = next(one for one in broker.get("/events.json?type=thing_done")["items"] if one["function"] == "bad")
        assert (row["outcome"], row["attempts"]) == ("dead", 5)

        endpoint.answer = lambda _: 200
        answer = HTTP.post(f"{broker.url}/dead-letters/redrive", params={"id": letter["id"]})
        assert answer.json()["redriven"] == 1
        endpoint.wait_for(7)
        assert Counter(push.path for push in endpoint.pushes) == {"/bad": 6, "/good": 1}
        assert letter["id"] not in {one["id"] for one in broker.get("/dead-letters.json")["items"]}
        assert HTTP.post(f"{broker.url}/dead-letters/redrive", params={"id": letter["id"]}).status_code == 404


# what dies, and what is lost of it: nothing


def test_a_killed_broker_loses_nothing_that_was_confirmed(own: Callable[..., Broker]) -> None:
    endpoint, confirmed = Endpoint(lambda _: time.sleep(0.002) or 200), set[bytes]()
    first = own()
    port, topic = int(first.address.rpartition(":")[2]), first.topic()
    with endpoint.serve() as url:
        first.subscribe(topic, url, retry_policy=retries(10, 50))

        def publish() -> None:
            with suppress(exceptions.GoogleAPICallError):
                for i in itertools.count():
                    payload = f"{threading.get_ident()} {i}".encode()
                    first.publish_once(topic, {"data": payload})
                    confirmed.add(payload)

        threads = [threading.Thread(target=publish) for _ in range(4)]
        for thread in threads:
            thread.start()
        endpoint.wait(lambda: len(endpoint.pushes) > 150)
        first.kill()
        for thread in threads:
            thread.join()
        second = own(port=port)
        endpoint.wait(lambda: confirmed <= endpoint.payloads().keys())
        eventually(second.settled)
        twice = [payload for payload, count in endpoint.payloads().items() if count > 1]
        assert len(twice) <= 50, "only what was under way comes again"
    assert len(confirmed) > 100


def test_what_was_under_way_when_it_was_killed_comes_again_at_once(own: Callable[..., Broker]) -> None:
    free = threading.Event()
    endpoint = Endpoint(lambda _: 200 if free.wait(20) else 500)
    first = own()
    topic = first.topic()
    policy = types.DeadLetterPolicy(dead_letter_topic=topic, max_delivery_attempts=5)
    with endpoint.serve() as url:
        first.subscribe(topic, url, ack_deadline_seconds=600, dead_letter_policy=policy)
        first.publish(topic, b"x")
        endpoint.wait_for(1)
        first.kill()
        second = own()
        endpoint.wait_for(2)
        free.set()
        eventually(second.settled)
    assert [push.event.data["deliveryAttempt"] for push in endpoint.pushes] == [1, 1]


def test_sigterm_lets_pushes_and_streams_end(own: Callable[..., Broker]) -> None:
    free, entered = threading.Event(), threading.Event()
    endpoint = Endpoint(lambda _: entered.set() or (200 if free.wait(20) else 500))
    broker = own()
    topic = broker.topic()
    with endpoint.serve() as url:
        broker.subscribe(topic, url)
        pulled = broker.subscribe(topic, function="pulled")
        request = types.StreamingPullRequest(subscription=pulled, stream_ack_deadline_seconds=10)
        hold = threading.Event()
        stream = broker.subscriber.streaming_pull(
            requests=itertools.chain([request], iter(lambda: hold.wait(20) and None, None)), retry=None
        )
        broker.publish(topic, b"x")
        assert next(iter(stream)).received_messages
        assert entered.wait(10)
        broker.process.terminate()
        with pytest.raises(exceptions.ServiceUnavailable):
            list(stream)
        hold.set()
        free.set()
        assert broker.process.wait(10) == 0
        second = own()
        eventually(lambda: second.get("/healthz")["waiting"] == 1)  # the pulled one, which nobody acknowledged
        assert len(endpoint.pushes) == 1


def test_one_folder_has_one_broker_and_one_port_too(own: Callable[..., Broker], tmp_path: Path) -> None:
    running = own()
    port = int(running.address.rpartition(":")[2])
    for process, complaint in (
        (launch(tmp_path / "own"), "another process serves"),
        (launch(tmp_path / "other", port=port), f"can't listen on 127.0.0.1:{port}"),
        (launch(tmp_path / "third", "--host", "0.0.0.0"), "it serves this machine alone"),
        (launch(tmp_path / "fourth", "--duplicate", "2"), "invalid probability value"),
    ):
        out, told = process.communicate(timeout=20)
        assert process.returncode != 0
        assert complaint in told
        assert "Traceback" not in told
        assert not out


# pull


def test_pull_acknowledge_and_come_again(broker: Broker) -> None:
    topic = broker.topic()
    subscription = broker.subscribe(topic)
    ids = broker.publish(topic, b"one", b"two")
    got = broker.pull(subscription, 2)
    assert [one.message.message_id for one in got] == ids
    assert got[0].message.attributes["type"] == "thing_done"
    broker.subscriber.acknowledge(subscription=subscription, ack_ids=[got[0].ack_id])
    broker.subscriber.modify_ack_deadline(subscription=subscription, ack_ids=[got[1].ack_id], ack_deadline_seconds=0)
    (again,) = broker.pull(subscription)
    assert again.message.message_id == ids[1]
    assert again.ack_id != got[1].ack_id
    broker.subscriber.modify_ack_deadline(subscription=subscription, ack_ids=[again.ack_id], ack_deadline_seconds=1)
    (late,) = broker.pull(subscription)
    assert late.message.message_id == ids[1]
    broker.subscriber.acknowledge(subscription=subscription, ack_ids=[again.ack_id])  # late, and good all the same
    broker.subscriber.acknowledge(subscription=subscription, ack_ids=[late.ack_id])
    eventually(lambda: broker.delivered(ids))


def test_what_is_refused_too_often_by_a_puller_is_a_dead_letter(broker: Broker) -> None:
    topic, graves = broker.topic(), broker.topic()
    mourner = broker.subscribe(graves)
    policy = types.DeadLetterPolicy(dead_letter_topic=graves, max_delivery_attempts=5)
    subscription = broker.subscribe(topic, dead_letter_policy=policy, retry_policy=retries(10, 20))
    broker.publish(topic, b"x")
    for attempt in range(1, 6):
        (one,) = broker.pull(subscription)
        assert one.delivery_attempt == attempt
        broker.subscriber.modify_ack_deadline(subscription=subscription, ack_ids=[one.ack_id], ack_deadline_seconds=0)
    (dead,) = broker.pull(mourner)
    assert dead.message.data == b"x"
    assert dead.message.attributes["CloudPubSubDeadLetterSourceDeliveryErrorMessage"] == "negatively acknowledged"


def test_googles_streaming_subscriber_gets_all_of_it(broker: Broker) -> None:
    topic = broker.topic()
    subscription = broker.subscribe(topic, function="streamed")
    got, complete = set[str](), threading.Event()

    def hear(message: Any) -> None:
        got.add(message.message_id)
        message.ack()
        if len(got) == 500:
            complete.set()

    hearing = broker.subscriber.subscribe(subscription, hear)
    ids = broker.publish(topic, *(b"x" * 1000 for _ in range(500)))
    assert complete.wait(20)
    eventually(lambda: broker.delivered(ids, "streamed"))
    hearing.cancel()
    hearing.result(10)
    assert got == set(ids)


def test_a_stream_holds_no_more_than_it_asked_for(broker: Broker) -> None:
    topic = broker.topic()
    subscription = broker.subscribe(topic)
    broker.publish(topic, *(b"x" for _ in range(5)))
    acknowledge, over = threading.Event(), threading.Event()
    got: list[Any] = []

    def requests() -> Iterator[types.StreamingPullRequest]:
        yield types.StreamingPullRequest(
            subscription=subscription, stream_ack_deadline_seconds=60, max_outstanding_messages=2
        )
        acknowledge.wait(20)
        yield types.StreamingPullRequest(ack_ids=[got[0].ack_id])
        over.wait(20)

    stream = iter(broker.subscriber.streaming_pull(requests=requests(), retry=None))
    while len(got) < 2:
        got += next(stream).received_messages
    assert len(got) == 2
    assert len(broker.pull(subscription, 1)) == 1  # there was more, but not for the stream
    acknowledge.set()
    got += next(stream).received_messages
    assert len(got) == 3
    over.set()
    assert not list(stream)


# configuration, and what is refused


def test_topics_and_subscriptions_are_listed_by_page_and_project(broker: Broker) -> None:
    names = [f"projects/listed/topics/t-{i}" for i in range(5)]
    for name in reversed(names):
        broker.publisher.create_topic(name=name)
    pages = broker.publisher.list_topics(request={"project": "projects/listed", "page_size": 2}).pages
    assert [[topic.name for topic in page.topics] for page in pages] == [names[:2], names[2:4], names[4:]]
    subscription = f"projects/listed/subscriptions/{'s' * 200}"
    broker.subscriber.create_subscription(name=subscription, topic=names[0])
    assert [one.name for one in broker.subscriber.list_subscriptions(project="projects/listed")] == [subscription]
    assert list(broker.publisher.list_topic_subscriptions(topic=names[0])) == [subscription]
    broker.publisher.delete_topic(topic=names[0])
    left = broker.subscriber.get_subscription(subscription=subscription)
    assert left.topic == "_deleted-topic_"
    assert left.ack_deadline_seconds == 10
    assert left.message_retention_duration.days == 7
    broker.subscriber.delete_subscription(subscription=subscription)
    with pytest.raises(exceptions.NotFound):
        broker.subscriber.get_subscription(subscription=subscription)


def test_an_update_changes_the_fields_of_its_mask(broker: Broker) -> None:
    endpoint, topic = Endpoint(), broker.topic()
    subscription = broker.subscribe(topic, ack_deadline_seconds=20)
    broker.publish(topic, b"waiting")
    with endpoint.serve() as url:
        wanted = types.Subscription(
            name=subscription, push_config=types.PushConfig(push_endpoint=url), ack_deadline_seconds=33
        )
        changed = broker.subscriber.update_subscription(
            request={"subscription": wanted, "update_mask": {"paths": ["push_config"]}}
        )
        assert (changed.push_config.push_endpoint, changed.ack_deadline_seconds) == (url, 20)
        endpoint.wait_for(1)
        broker.subscriber.modify_push_config(subscription=subscription, push_config=types.PushConfig())
        broker.publish(topic, b"pulled")
        assert broker.pull(subscription)[0].message.data == b"pulled"
        assert len(endpoint.pushes) == 1
    for paths in ([], ["topic"], ["no_such"], ["ack_deadline_seconds.x"]):
        with pytest.raises(exceptions.InvalidArgument):
            broker.subscriber.update_subscription(request={"subscription": wanted, "update_mask": {"paths": paths}})
    labelled = types.Topic(name=topic, labels={"of": "mine"})
    broker.publisher.update_topic(request={"topic": labelled, "update_mask": {"paths": ["labels"]}})
    assert broker.publisher.get_topic(topic=topic).labels == {"of": "mine"}


def subscription_with(**config: Any) -> Callable[[Broker, str], Any]:
    name = f"{PROJECT}/subscriptions/never-made"
    return lambda broker, topic: broker.subscriber.create_subscription(request={"name": name, "topic": topic} | config)


def publishing(**message: Any) -> Callable[[Broker, str], Any]:
    return lambda broker, topic: broker.publish_once(topic, message)


ABSENT_TOPIC, ABSENT = f"{PROJECT}/topics/absent", f"{PROJECT}/subscriptions/absent"
BAD_CALLS: dict[str, tuple[Callable[[Broker, str], Any], type[Exception]]] = {
    "a topic twice": (lambda b, topic: b.publisher.create_topic(name=topic), exceptions.AlreadyExists),
    "a subscription twice": (lambda b, topic: [b.subscribe(topic) for _ in "12"], exceptions.AlreadyExists),
    "a bad topic's name": (lambda b, _: b.publisher.create_topic(name="topic"), exceptions.InvalidArgument),
    "a short name": (lambda b, _: b.publisher.create_topic(name=f"{PROJECT}/topics/ab"), exceptions.InvalidArgument),
    "google's name": (
        lambda b, _: b.publisher.create_topic(name=f"{PROJECT}/topics/googly"),
        exceptions.InvalidArgument,
    ),
    "an absent topic": (lambda b, _: b.publisher.get_topic(topic=ABSENT_TOPIC), exceptions.NotFound),
    "deleting what isn't": (lambda b, _: b.publisher.delete_topic(topic=ABSENT_TOPIC), exceptions.NotFound),
    "publishing to what isn't": (lambda b, _: b.publish(ABSENT_TOPIC, b"x"), exceptions.NotFound),
    "subscribing to what isn't": (lambda b, _: b.subscribe(ABSENT_TOPIC), exceptions.NotFound),
    "pulling what isn't": (lambda b, _: b.pull(ABSENT), exceptions.NotFound),
    "an empty message": (publishing(data=b""), exceptions.InvalidArgument),
    "a long attribute": (publishing(data=b"x", attributes={"a": "é" * 513}), exceptions.InvalidArgument),
    "a long key": (publishing(data=b"x", attributes={"a" * 257: ""}), exceptions.InvalidArgument),
    "google's key": (publishing(data=b"x", attributes={"googclient": ""}), exceptions.InvalidArgument),
    "too much": (publishing(data=bytes(10 * 1024 * 1024)), exceptions.InvalidArgument),
    "no messages": (lambda b, topic: b.publish_once(topic), exceptions.InvalidArgument),
    "a short deadline": (subscription_with(ack_deadline_seconds=5), exceptions.InvalidArgument),
    "an odd endpoint": (subscription_with(push_config={"push_endpoint": "ftp://x"}), exceptions.InvalidArgument),
    "no url": (subscription_with(push_config={"push_endpoint": "http://[x/"}), exceptions.InvalidArgument),
    "odd retries": (subscription_with(retry_policy=retries(2000, 1000)), exceptions.InvalidArgument),
    "too few attempts": (
        subscription_with(dead_letter_policy={"dead_letter_topic": ABSENT_TOPIC, "max_delivery_attempts": 4}),
        exceptions.InvalidArgument,
    ),
    "no grave": (subscription_with(dead_letter_policy={"dead_letter_topic": ABSENT_TOPIC}), exceptions.NotFound),
    "a filter": (subscription_with(filter='attributes.a = "b"'), exceptions.MethodNotImplemented),
    "ordering": (subscription_with(enable_message_ordering=True), exceptions.MethodNotImplemented),
    "no number to pull": (
        lambda b, topic: b.subscriber.pull(subscription=b.subscribe(topic), max_messages=0),
        exceptions.InvalidArgument,
    ),
    "odd ack ids": (
        lambda b, topic: b.subscriber.acknowledge(subscription=b.subscribe(topic), ack_ids=["9" * 30 + "-1"]),
        exceptions.InvalidArgument,
    ),
    "a long lease": (
        lambda b, topic: b.subscriber.modify_ack_deadline(
            subscription=b.subscribe(topic), ack_ids=["1-1"], ack_deadline_seconds=601
        ),
        exceptions.InvalidArgument,
    ),
    "an odd stream": (
        lambda b, _: list(b.subscriber.streaming_pull(requests=iter([types.StreamingPullRequest()]), retry=None)),
        exceptions.InvalidArgument,
    ),
}


@pytest.mark.parametrize("bad", BAD_CALLS)
def test_bad_calls_are_refused_as_google_does(broker: Broker, bad: str) -> None:
    call, refusal = BAD_CALLS[bad]
    with pytest.raises(refusal):
        call(broker, broker.topic())
    assert broker.get("/healthz")["status"] == "ok"


def test_bytes_that_are_no_message_harm_nobody(broker: Broker) -> None:
    with grpc.insecure_channel(broker.address) as channel:
        for method in ("Publisher/Publish", "Subscriber/StreamingPull", "Subscriber/Pull", "Publisher/NoSuch"):
            with pytest.raises(grpc.RpcError):
                channel.unary_unary(f"/google.pubsub.v1.{method}")(b"\xff" * 100, timeout=5)
    assert broker.publish(broker.topic(), b"x")


# the console's side


def test_the_console_is_told_what_happened(broker: Broker) -> None:
    endpoint, topic = Endpoint(), broker.topic()
    kind = topic.rpartition("/")[2]
    with endpoint.serve() as url:
        broker.subscribe(topic, url, "project_posts")
        ids = [broker.publisher.publish(topic, b"x").result(10) for _ in range(3)]  # called after their topic
        eventually(lambda: len(broker.get(f"/events.json?type={kind}")["items"]) == 3)
    newest, *_ = rows = broker.get(f"/events.json?type={kind}&limit=2")["items"]
    assert len(rows) == 2
    assert newest.keys() == {"id", "type", "attempts", "function", "outcome", "reason", "ms", "at"}
    assert newest["id"] in ids
    assert (newest["type"], newest["function"], newest["outcome"]) == (kind, "project_posts", "delivered")
    assert 0 < newest["ms"] < 5000
    assert abs(newest["at"] - time.time() * 1000) < 20_000
    assert broker.get("/events.json?type=nothing")["items"] == []


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/events.json?limit=x", {}, 400),
        ("GET", "/events.json?limit=0", {}, 400),
        ("GET", "/dead-letters.json?limit=99999999999999999999", {}, 400),
        ("POST", "/dead-letters/redrive?id=-1", {}, 400),
        ("POST", "/dead-letters/redrive?id=987654321", {}, 404),
        ("POST", "/dead-letters/redrive", {"Origin": "http://evil.example"}, 403),
        ("GET", "/events.json", {"Host": "evil.example"}, 403),
        ("GET", "/events.json", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("GET", "/dead-letters/redrive", {}, 405),
        ("GET", "/elsewhere", {}, 404),
    ],
)
def test_bad_requests_get_problems(
    broker: Broker, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    answer = HTTP.request(method, broker.url + path, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert answer.json()["status"] == status


def test_what_is_older_than_is_retained_is_dropped(tmp_path: Path) -> None:
    store, now = Store(tmp_path), time.time_ns() // 1_000_000
    for published_to in ([1], [1, 2], [2]):
        store.publish(Message("projects/p/topics/t", b"x", {}), published_to, now)
    store.expire(1, now - 1000)
    assert store.waiting() == 4
    store.expire(1, now + 1000)
    assert store.waiting() == 2
    assert store.db.execute("SELECT count(*) FROM messages").fetchone() == (2,)
    store.close()


def test_history_is_bounded() -> None:
    db = sqlite3.connect(":memory:")
    db.executescript(history.SCHEMA)
    rows = [(i, "projects/p/subscriptions/t--f", "t", 1, "delivered", "", 1.0, i) for i in range(history.KEPT + 7)]
    db.executemany(
        "INSERT INTO history (message, subscription, type, attempts, outcome, reason, ms, at) VALUES (?,?,?,?,?,?,?,?)",
        rows,
    )
    history.trim(db)
    assert db.execute("SELECT count(*), min(message) FROM history").fetchone() == (history.KEPT, 7)


# chaos


def test_duplicates(own: Callable[..., Broker]) -> None:
    endpoint, broker = Endpoint(), own("--duplicate", "1", "--seed", "1")
    topic = broker.topic()
    with endpoint.serve() as url:
        broker.subscribe(topic, url)
        broker.publish(topic, *(f"{i}".encode() for i in range(20)))
        endpoint.wait_for(40)
        eventually(broker.settled)
    assert set(endpoint.payloads().values()) == {2}


def test_lost_acknowledgements(own: Callable[..., Broker]) -> None:
    endpoint, broker = Endpoint(), own("--drop-acks", "0.5", "--seed", "1")
    topic = broker.topic()
    with endpoint.serve() as url:
        broker.subscribe(topic, url, retry_policy=retries(10, 20))
        broker.publish(topic, *(f"{i}".encode() for i in range(50)))
        endpoint.wait(lambda: len(endpoint.payloads()) == 50)
        eventually(broker.settled)
    assert 70 < len(endpoint.pushes) < 160


def test_another_order_and_a_delay(own: Callable[..., Broker]) -> None:
    endpoint, broker = Endpoint(), own("--reorder", "0.3", "--delay", "200", "--seed", "1")
    topic = broker.topic()
    with endpoint.serve() as url:
        broker.subscribe(topic, url)
        began = time.monotonic()
        for i in range(20):
            broker.publish(topic, f"{i:02}".encode())
        payloads = [push.data for push in endpoint.wait_for(20)]
    assert endpoint.pushes[0].at - began >= 0.19
    assert sorted(payloads) == [f"{i:02}".encode() for i in range(20)]
    displaced = sum(later < earlier for earlier, later in itertools.pairwise(payloads))
    assert displaced >= 2


def test_it_is_told_while_it_runs(own: Callable[..., Broker]) -> None:
    endpoint, broker = Endpoint(), own()
    topic = broker.topic()

    def tell(body: dict[str, object]) -> int:
        return HTTP.put(f"{broker.url}/chaos", json=body).status_code

    refused: list[dict[str, object]] = [{"duplicate": 1.5}, {"delay": -1}, {"duplicates": 1}]
    assert [tell(body) for body in refused] == [400] * 3
    with endpoint.serve() as url:
        broker.subscribe(topic, url)
        assert tell({"duplicate": 1}) == 200
        broker.publish(topic, b"twice")
        endpoint.wait_for(2)
        assert tell({}) == 200
        broker.publish(topic, b"once")
        eventually(broker.settled)
    assert endpoint.payloads() == {b"twice": 2, b"once": 1}
