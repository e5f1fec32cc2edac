"""The SMTP server that sends nothing on, and the mails that it caught: in SQLite, so that they outlive a restart."""

import email
import email.policy
import sqlite3
import time
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

SHOWN = 200
MAIL_BYTES = 32 << 20
SCHEMA = """
CREATE TABLE IF NOT EXISTS mails (
    id INTEGER PRIMARY KEY,
    recipient TEXT NOT NULL,
    subject TEXT NOT NULL,
    text TEXT NOT NULL,
    html TEXT,
    at INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS mails_of_recipient ON mails (recipient, id);
"""


class Mailbox:
    """The mails caught, one for each recipient."""

    def __init__(self, path: Path) -> None:
        path.touch(mode=0o600)
        self._rows = sqlite3.connect(path, isolation_level=None)
        self._rows.execute("PRAGMA journal_mode=WAL")
        self._rows.executescript(SCHEMA)

    def keep(self, recipients: list[str], subject: str, text: str, html: str | None) -> None:
        """Keep a mail that has come now."""
        now = time.time_ns() // 1_000_000
        rows = [(recipient, subject, text, html, now) for recipient in recipients]
        self._rows.execute("BEGIN")
        self._rows.executemany("INSERT INTO mails (recipient, subject, text, html, at) VALUES (?, ?, ?, ?, ?)", rows)
        self._rows.execute("COMMIT")

    def newest(self, to: str | None = None) -> list[dict[str, Any]]:
        """The newest mails, newest first, as `{to, subject, text, html, at}`; those to the address `to`, if given."""
        where, values = ("WHERE recipient = ? ", [to.strip().lower()]) if to else ("", [])
        found = self._rows.execute(
            f"SELECT recipient, subject, text, html, at FROM mails {where}ORDER BY id DESC LIMIT {SHOWN}",
            values,
        )
        return [dict(zip(("to", "subject", "text", "html", "at"), row, strict=True)) for row in found]

    def close(self) -> None:
        """No more mails."""
        self._rows.close()


class Catcher:
    """What aiosmtpd asks of a handler: takes every mail."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Keep the mail before it is confirmed."""
        content = envelope.content if isinstance(envelope.content, bytes) else b""
        subject, text, html = read(content)
        recipients = [recipient.lower() for recipient in envelope.rcpt_tos if recipient]
        self._mailbox.keep(recipients, subject, text, html)
        return "250 caught"


def read(content: bytes) -> tuple[str, str, str | None]:
    """Subject, text, and HTML if it has one, of a mail. Never raises: what can't be read is shown as it came."""
    try:
        message = email.message_from_bytes(content, policy=email.policy.default)
        subject = _storable(str(message.get("subject", "")))
        text, html = (next(_bodies(message, kind), None) for kind in ("plain", "html"))
    except Exception:  # the parser meets malformed mails with many kinds of exception
        return "(a mail that can't be read)", content.decode(errors="replace"), None
    return subject, text or "", html


def _bodies(message: EmailMessage, kind: str) -> Iterator[str]:
    part = message.get_body((kind,))
    if part is not None:
        yield _storable(str(part.get_content())).replace("\r\n", "\n")


def _storable(text: str) -> str:
    """Without the lone surrogates that the parser puts in place of bytes it can't decode."""
    return text.encode(errors="replace").decode()
