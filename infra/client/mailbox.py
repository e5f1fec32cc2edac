"""What the local stack's console caught of the mails to one address."""

import re
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import httpx

from infra.client.http import TLS

WAIT_SECONDS: Final = 15.0
LOOK_SECONDS: Final = 0.02


class Mailbox(NamedTuple):
    """A mailbox: the console's URL, and the address."""

    console: str
    address: str

    def mails(self) -> list[dict[str, Any]]:
        """The mails, newest first."""
        return httpx.get(f"{self.console}/inbox.json", params={"to": self.address}, trust_env=False, verify=TLS).json()

    def next_code(self) -> Callable[[], str]:
        """What waits for the six digits of the mail that is asked for after this."""
        before = len(self.mails())
        return lambda: self.code(before)

    def code(self, after: int = 0) -> str:
        """The six digits of the newest mail, waited for past the `after` mails that were there. Raises TimeoutError."""
        until = time.monotonic() + WAIT_SECONDS
        while not (newer := self.mails()[: -after or None]):
            if time.monotonic() > until:
                raise TimeoutError(f"no mail came to {self.address}")
            time.sleep(LOOK_SECONDS)
        found = re.search(r"\b(\d{6})\b", newer[0]["text"])
        assert found, newer[0]
        return found[1]
