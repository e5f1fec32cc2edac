"""Mail over SMTP: text and HTML, from `MAIL_FROM` by `SMTP_URL` (smtp:// with STARTTLS where offered, or smtps://)."""

import smtplib
import ssl
from contextlib import closing
from email.message import EmailMessage
from email.utils import formatdate, parseaddr
from typing import Final
from urllib.parse import unquote, urlsplit

from shared.kernel.config import settings
from shared.kernel.problems import Unavailable

TIMEOUT_SECONDS: Final = 10


class MailUnavailable(Unavailable):
    """The SMTP server can't be reached, or takes nothing just now."""

    def __init__(self) -> None:
        super().__init__("mail")


def send(to: str, subject: str, text: str, html: str, *, message_key: str) -> None:
    """Send one mail. `message_key` makes its Message-ID, the same when it is sent again. Raises MailUnavailable.

    SMTP is at least once: who dies between the server's 250 and writing that down sends it again. What relays and
    mailboxes know a second copy by is its Message-ID (RFC 5322, 3.6.4).
    """
    message = EmailMessage()
    message["From"] = settings().mail_from
    message["To"] = to
    message["Subject"] = subject
    message["Date"] = formatdate()
    domain = parseaddr(settings().mail_from)[1].rpartition("@")[2] or "localhost"
    message["Message-ID"] = f"<{message_key}@{domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text)
    message.add_alternative(html, subtype="html")
    try:
        with closing(_connect()) as server:
            server.send_message(message)
    except smtplib.SMTPRecipientsRefused:
        return  # no such mailbox: it won't be there at the next try either
    except (OSError, smtplib.SMTPException):
        raise MailUnavailable from None


def _connect() -> smtplib.SMTP:
    url = urlsplit(settings().smtp_url)
    host = url.hostname or "localhost"
    if url.scheme == "smtps":
        server: smtplib.SMTP = smtplib.SMTP_SSL(host, url.port or 465, timeout=TIMEOUT_SECONDS)
    else:
        server = smtplib.SMTP(host, url.port or 25, timeout=TIMEOUT_SECONDS)
        server.ehlo()
        if server.has_extn("starttls"):
            server.starttls(context=ssl.create_default_context())
    if url.username:
        server.login(unquote(url.username), unquote(url.password or ""))
    return server
