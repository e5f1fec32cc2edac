"""What a socket reads, on its way to the parser: a frame that is coming may not grow as it likes."""

import asyncio
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from realtime_service.wire import Wire

# Of one frame. What is over the limit of a message, but not by far, is read whole: the client's next frame is then
# its answer to the close.
MAX_READ: Final = 1 << 20


class Intake(asyncio.BufferedProtocol):
    """Between a socket and picows's parser, which tells of a frame once all of it has come.

    The parser's own limit closes with 1009. Here it is 4413, whatever the size: once more than `MAX_READ` has come of
    a frame the connection is to end. What follows isn't parsed, and so held to no rate: it is read, and passed over,
    only once the connection is closed.
    """

    __slots__ = ("_parser", "_wire")

    def __init__(self, wire: "Wire", parser: asyncio.BufferedProtocol):
        self._wire = wire
        self._parser = parser

    def get_buffer(self, sizehint: int) -> Any:
        """Where the next bytes go."""
        return self._parser.get_buffer(sizehint)

    def buffer_updated(self, nbytes: int) -> None:
        """So many have come."""
        wire = self._wire
        if wire.coming > MAX_READ:
            return
        wire.coming += nbytes
        self._parser.buffer_updated(nbytes)
        if wire.coming > MAX_READ:
            wire.end(4413, "frame too large")
            wire.read_no_more()

    def eof_received(self) -> bool | None:
        """The client sends no more."""
        return self._parser.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._parser.connection_lost(exc)

    def pause_writing(self) -> None:
        """Much is unsent."""
        self._parser.pause_writing()

    def resume_writing(self) -> None:
        """It has drained."""
        self._parser.resume_writing()
