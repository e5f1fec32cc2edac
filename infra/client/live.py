"""Following what happens, whatever becomes of the socket."""

import json
import logging
import threading
from collections import deque
from collections.abc import Collection, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import Any, Final, Self

import httpx
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from infra.client.asking import Asking
from infra.client.http import Client
from infra.client.link import Event, Link, answer_in, event_in, link
from infra.client.refused import Refused, problem_in
from infra.client.waiting import Patience, backoff
from realtime_service.protocol import Resumed

# Close codes of the contract.
GOING_AWAY: Final = 1001
SIGNED_OUT: Final = 4401
# What was asked is no request: it would be none over the next socket, too.
AT_FAULT: Final = (4400, 4413)
# Between what is asked again, so that it is not too fast.
PACE_SECONDS: Final = 0.05
PASSING: Final = (OSError, InvalidHandshake, httpx.TransportError)
_log: Final = logging.getLogger("client.live")


class Ended(ConnectionError):
    """Nothing more comes: it was closed here."""


class Live:
    """What a user is told, from when the block begins: each event once, in order, typed.

        with Live(client, url) as live:
            for event in live: ...

    A thread reads the socket, and connects anew when it is cut off, for as long as the session lives. Events wait here
    until they are taken. Begin first, and read over HTTP then: so nothing lies between. After `resync` read anew, too.
    `after` is the `seq` where an earlier one left off. `by_ticket` connects as browsers do.
    """

    def __init__(self, client: Client, url: str, *, after: int | None = None, by_ticket: bool = False):
        # Those subscribed to, in order.
        self.topics: list[str] = []
        self._client = client
        self._url = url
        self._by_ticket = by_ticket
        self._heard = after
        self._asking = Asking()
        # Guards all that both threads change, and tells of news.
        self._news = threading.Condition()
        self._events: deque[Event] = deque()
        self._end: Exception | None = None
        self._socket: Link | None = None
        self._tries = 0
        self._is_stale = False
        self._begun: Future[None] = Future()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._begun.result(self._client.patience)
        except TimeoutError:
            self.close()
            raise TimeoutError(f"{self._url} was not reached within {self._client.patience} s") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up. What has come can still be taken; then it has ended."""
        self._closing.set()
        with self._news:
            here = self._socket
        if here is not None:
            here.socket.close()
        self._thread.join()

    @property
    def seq(self) -> int | None:
        """Where another one may go on: past all that was taken here."""
        with self._news:
            return next((event.seq - 1 for event in self._events if event.seq), self._heard)

    def take(self, seconds: float | None = None) -> Event:
        """The next event. Raises TimeoutError; Ended after `close`, and Refused once the session has ended."""
        with self._news:
            if not self._news.wait_for(lambda: self._events or self._end, seconds):
                raise TimeoutError(f"no event within {seconds} s")
            if self._events:
                return self._events.popleft()
            assert self._end is not None
            raise self._end

    def __iter__(self) -> Iterator[Event]:
        """Every event as it comes, until it is closed. Raises Refused once the session has ended."""
        with suppress(Ended):
            while True:
                yield self.take()

    def act(self, action: str, data: dict[str, Any] | None = None) -> Any:
        """The typed answer to an action: `data` are path, query and body fields. Raises Refused, TimeoutError.

        It is asked again should the socket be cut off before the answer: every action is done twice as once, messages
        by their `client_id`.
        """
        patience = Patience(self._client.patience)
        while True:
            try:
                return answer_in(action, self._asking.ask(action, data or {}, self._client.patience))
            except Refused as refused:
                if refused.retry_after is None or not patience.lasts(refused.retry_after):
                    raise

    def subscribe(self, *topics: str) -> None:
        """Be told of these too, for as long as they can be seen: that ends silently. All or none: raises Refused."""
        with self._news:
            new = [name for name in topics if name not in self.topics]
            self.topics = [*self.topics, *new]
        try:
            self.act("subscribe", {"topics": topics})
        except Refused:
            self._drop(new)
            raise

    def unsubscribe(self, *topics: str) -> None:
        """Be told of these no more."""
        self._drop(topics)
        self.act("unsubscribe", {"topics": topics})

    def _drop(self, topics: Collection[str]) -> None:
        with self._news:
            self.topics = [name for name in self.topics if name not in topics]

    def _run(self) -> None:
        end: Exception = Ended("closed")
        try:
            while not self._closing.is_set():
                self._closing.wait(self._follow())
        except Exception as fault:
            end = fault
        with self._news:
            self._end = end
            self._news.notify_all()
        self._asking.end(end)
        if not self._begun.done():
            self._begun.set_exception(end)

    def _follow(self) -> float:
        """Follow over one socket until that is cut off. Gives the seconds until the next. Raises what ends it all."""
        try:
            advised = self._follow_once()
        except PASSING as fault:
            _log.info("the live service can't be reached", extra={"reason": f"{type(fault).__name__}: {fault}"})
            advised = None
        except Refused as refused:
            if refused.status < 500 and refused.retry_after is None:
                raise
            advised = refused.retry_after
        self._tries += 1
        return backoff(self._tries) if advised is None else advised

    def _follow_once(self) -> float | None:
        """The same; gives the seconds that were advised, if any."""
        token = "" if self._client.tokens is None else self._client.tokens.access_token
        try:
            with self._connect(token) as here:
                self._begin(here)
                while True:
                    self._sort(here.receive())
                    if self._is_stale:
                        self._subscribe(here)
        except InvalidStatus as refused:
            answer = refused.response
            raise Refused(self._url, problem_in(bytes(answer.body or b""), answer.status_code)) from None
        except ConnectionClosed as closed:
            code, reason = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "")
        finally:
            self._asking.over(None)
            with self._news:
                self._socket = None
        if code == SIGNED_OUT and not self._closing.is_set():
            self._client.refresh(token)
        elif code in AT_FAULT:
            self._asking.fail(ConnectionError(f"closed with {code}: {reason}"))
        return _advice(reason) if code == GOING_AWAY else None

    def _connect(self, token: str) -> AbstractContextManager[Link]:
        if self._by_ticket:
            ticket = self._client.post("/v1/live/tickets")["ticket"]
            return link(self._url, self._client.format, ticket=ticket)
        return link(self._url, self._client.format, token=token)

    def _begin(self, here: Link) -> None:
        """Hear what was missed; then ask anew what has no answer."""
        with self._news:
            self._socket = here
        if self._closing.is_set():
            here.socket.close()
        self._resume(here)
        self._subscribe(here)
        waiting = self._asking.over(here)
        self._tries = 0
        if not self._begun.done():
            self._begun.set_result(None)
        for request in waiting:
            here.send(request)
            self._closing.wait(PACE_SECONDS)

    def _resume(self, here: Link) -> None:
        """Have sent what was missed since the last.

        What comes before the answer may be in no order: what is new can be ahead of what was missed, where the request
        took long. So it waits for the answer, and if that doesn't come all of it is asked for again.
        """
        here.send(self._asking.request("resume", {"after": self._heard or 0}))
        came: list[Event] = []
        while "event" in (message := here.receive()):
            came.append(event_in(message))
        resumed: Resumed = answer_in("resume", message)
        is_first = self._heard is None  # it has just begun, so there is nothing that it could have missed
        for event in sorted(came, key=lambda event: event.seq or 0):
            if not (is_first and event.name == "resync"):
                self._hear(event)
        with self._news:
            self._heard = max(self._heard or 0, resumed.seq)

    def _subscribe(self, here: Link) -> None:
        """Subscribe to what one was subscribed to; to those that can't be seen any more, no longer."""
        self._is_stale = False
        while topics := self.topics:
            request = self._asking.request("subscribe", {"topics": topics})
            here.send(request)
            while (message := here.receive()).get("reply_to") != request["id"]:
                self._sort(message)
            try:
                answer_in("subscribe", message)
                return
            except Refused as refused:
                gone = {name for place, name in enumerate(topics) if _names(refused, f"topics[{place}]")}
                if not gone:
                    raise
                self._drop(gone)

    def _sort(self, message: dict[str, Any]) -> None:
        if "event" in message:
            self._hear(event_in(message))
        else:
            self._asking.take(message)

    def _hear(self, event: Event) -> None:
        """Put an event where it is taken, unless it was heard before."""
        if event.name == "resync":
            self._is_stale = True  # something of the topics may have been missed, too
        with self._news:
            if event.seq is None or event.seq > (self._heard or 0):
                self._events.append(event)
                self._heard = event.seq or self._heard
                self._news.notify()


def _names(refused: Refused, field: str) -> bool:
    return any(one.field == field for one in refused.errors)


def _advice(reason: str) -> float | None:
    """The seconds in the reason of who goes away; None where there are none."""
    try:
        return float(json.loads(reason)["reconnect_in_ms"]) / 1000
    except (ValueError, KeyError, TypeError):
        return None
