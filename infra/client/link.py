"""One socket of the live service: a connection in one format, and what goes over it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from infra.client.refused import Refused, problem_of
from realtime_service.protocol import ACTIONS, EVENTS, OWN
from shared.kernel import codec
from shared.kernel.codec import Format


class Event(msgspec.Struct, frozen=True, rename={"name": "event"}):
    """What was told: `data` are of the type that the protocol has for it (realtime_service/protocol.py).

    `seq` is that of an event of the user's own, which is kept for a day, and None of what one subscribes to.
    """

    name: str
    data: Any
    at: int
    seq: int | None = None


class Link:
    """A socket that is open. Its messages are plain values; what to make of them is another's."""

    def __init__(self, socket: ClientConnection, format: Format):
        self.socket = socket
        self.format: Format = format

    def send(self, request: dict[str, Any]) -> None:
        """Send a request. Raises ConnectionClosed."""
        frame = codec.encode(request, self.format)
        self.socket.send(frame, text=self.format == "json")

    def receive(self, seconds: float | None = None) -> dict[str, Any]:
        """The next message. Raises TimeoutError, ConnectionClosed."""
        frame = self.socket.recv(timeout=seconds, decode=False)
        return msgspec.json.decode(frame) if self.format == "json" else msgspec.msgpack.decode(frame)


@contextmanager
def link(url: str, format: Format, *, ticket: str | None = None, token: str | None = None) -> Iterator[Link]:
    """A socket, by a ticket as a browser's, or by an access token. Raises OSError, InvalidHandshake."""
    with connect(
        url if ticket is None else f"{url}?ticket={ticket}",
        subprotocols=[Subprotocol(f"i9lyfe.v1.{format}")],
        additional_headers={} if token is None else {"Authorization": f"Bearer {token}"},
        proxy=None,
    ) as socket:
        yield Link(socket, format)


def event_in(message: dict[str, Any]) -> Event:
    """The event in a message, its data typed; those of a name that this client doesn't know stay as they came."""
    event = msgspec.convert(message, Event)
    known = EVENTS.get(event.name)
    return event if known is None else msgspec.structs.replace(event, data=msgspec.convert(event.data, known.data))


def answer_in(action: str, reply: dict[str, Any]) -> Any:
    """The typed data of the reply to an action. Raises Refused."""
    if not reply["ok"]:
        raise Refused(action, problem_of(reply["error"], 0))
    kind = OWN[action][1] if action in OWN else ACTIONS[action].answer if action in ACTIONS else Any
    return msgspec.convert(reply["data"], kind)
