"""A client of the API and of the live service: typed, in either format, and sure of what it heard.

`Client` asks over HTTP: it keeps its session fresh, tries again what may be tried again, and raises `Refused` for a
problem. `Live` follows what happens: it comes back whenever it is cut off, and no event is missed, repeated or told out
of order; where something may have been missed all the same, it says so (`resync`). Types are the server's own.
"""

from infra.client.http import Client
from infra.client.link import Event
from infra.client.live import Ended, Live
from infra.client.refused import Refused

__all__ = ["Client", "Ended", "Event", "Live", "Refused"]
