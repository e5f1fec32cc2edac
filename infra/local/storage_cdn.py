"""Cloud CDN's signed URLs, checked as Cloud CDN checks them: the private bucket behind it is read by these.

The form is that of https://cloud.google.com/cdn/docs/using-signed-urls: `Expires`, `KeyName` and last `Signature`, an
HMAC-SHA1 of the URL before it.
"""

import base64
import hmac
import re
from collections.abc import Mapping

from infra.local.storage_errors import access_denied

_SIGNED = re.compile(r"(.*[?&]Expires=([0-9]{1,15})&KeyName=([^&]*))&Signature=([A-Za-z0-9_=-]*)")


def is_signed(query: str) -> bool:
    """Whether the query claims to carry such a signature."""
    return "Signature=" in query and "KeyName=" in query


def verify(url: str, keys: Mapping[str, bytes], now: float) -> None:
    """Check a URL as it was on the wire; `now` in seconds since the epoch. Raises StorageError 403."""
    found = _SIGNED.fullmatch(url)
    if found is None:
        raise access_denied("A signed URL ends with Expires, KeyName and Signature.")
    signed, expires, name, signature = found.groups()
    key = keys.get(name)
    wanted = b"" if key is None else base64.urlsafe_b64encode(hmac.digest(key, signed.encode(), "sha1"))
    if not wanted or not hmac.compare_digest(signature.encode(), wanted):
        raise access_denied("The signature is not that of this URL.")
    if int(expires) <= now:
        raise access_denied("The URL has expired.")
