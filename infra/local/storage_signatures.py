"""V4 signed URLs (GOOG4-RSA-SHA256), checked as Cloud Storage checks them.

The canonical request is built anew from what arrived, by
https://cloud.google.com/storage/docs/authentication/canonical-requests, and what can't be built strictly is refused.
"""

import calendar
import hashlib
import re
import time
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from infra.local.storage_errors import StorageError, access_denied, invalid, malformed_header
from infra.local.storage_signer import Verifier

ALGORITHM = "GOOG4-RSA-SHA256"
LONGEST_SECONDS = 7 * 24 * 3600
SKEW_SECONDS = 15 * 60
_SIGNATURE = "X-Goog-Signature"
_PARAMETERS = ("X-Goog-Algorithm", "X-Goog-Credential", "X-Goog-Date", "X-Goog-Expires", "X-Goog-SignedHeaders")


class Arrived(NamedTuple):
    """A request as it was on the wire: path and query still percent-encoded."""

    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]


def parse_query(query: str) -> list[tuple[str, str]]:
    """Name and value of each parameter, decoded. `+` is a plus. Raises StorageError for what is not UTF-8."""
    pairs = [part.partition("=") for part in query.split("&") if part]
    return [(decode(name), decode(value)) for name, _, value in pairs]


def decode(encoded: str) -> str:
    """Percent-decoded. Raises StorageError 400 if that is not UTF-8."""
    try:
        return unquote_to_bytes(encoded.encode("utf-8", "surrogateescape")).decode()
    except UnicodeDecodeError:
        raise StorageError(400, "InvalidURI", "Couldn't parse the specified URI.", "It is not UTF-8.") from None


def is_signed(query: str) -> bool:
    """Whether the query claims to carry a V4 signature."""
    return any(name == _SIGNATURE for name, _ in parse_query(query))


def verify(arrived: Arrived, verifier: Verifier, now: float) -> frozenset[str]:
    """Check the signature of a signed URL; `now` in seconds since the epoch.

    Returns the names of the signed headers (lower case). Raises StorageError as Cloud Storage would.
    """
    pairs = parse_query(arrived.query)
    given = _parameters(pairs)
    started, scope = _credential(given, verifier)
    expires = given["X-Goog-Expires"]
    if not re.fullmatch(r"[0-9]{1,9}", expires) or not 1 <= int(expires) <= LONGEST_SECONDS:
        raise invalid(f"X-Goog-Expires must be from 1 to {LONGEST_SECONDS} seconds.")
    names = given["X-Goog-SignedHeaders"].split(";")
    canonical = _canonical_request(arrived, pairs, names)
    digest = hashlib.sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest()
    text = "\n".join((ALGORITHM, given["X-Goog-Date"], scope, digest))
    if not verifier.accepts(given[_SIGNATURE], text):
        raise StorageError(
            403,
            "SignatureDoesNotMatch",
            "Access denied.",
            "The request signature we calculated does not match the signature you provided. "
            "Check your Google secret key and signing method.",
            StringToSign=text,
            CanonicalRequest=canonical,
        )
    if now < started - SKEW_SECONDS:
        raise StorageError(
            403,
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
        )
    if now >= started + int(expires):
        ended = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started + int(expires)))
        raise StorageError(400, "ExpiredToken", "Invalid argument.", f"The provided token has expired: {ended}")
    return frozenset(names)


def _parameters(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The X-Goog-* parameters of the signature, each there exactly once."""
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in _PARAMETERS or name == _SIGNATURE:
            if name in found:
                raise invalid(f"{name} is given twice.")
            found[name] = value
    for name in (*_PARAMETERS, _SIGNATURE):
        if not found.get(name):
            raise StorageError(
                400, "MissingSecurityElement", "The request is missing a security element.", f"{name} is required."
            )
    if found["X-Goog-Algorithm"] != ALGORITHM:
        raise invalid(f"X-Goog-Algorithm must be {ALGORITHM}.")
    return found


def _credential(given: dict[str, str], verifier: Verifier) -> tuple[int, str]:
    """When the URL was signed (seconds since the epoch), and the credential scope."""
    date = given["X-Goog-Date"]
    try:
        if not re.fullmatch(r"[0-9]{8}T[0-9]{6}Z", date):
            raise ValueError
        started = calendar.timegm(time.strptime(date, "%Y%m%dT%H%M%SZ"))
    except ValueError:
        raise invalid("X-Goog-Date must be in the form YYYYMMDD'T'HHMMSS'Z'.") from None
    email, slash, scope = given["X-Goog-Credential"].partition("/")
    if not slash or not re.fullmatch(r"[0-9]{8}/[a-z0-9-]+/storage/goog4_request", scope):
        raise invalid("X-Goog-Credential must be EMAIL/YYYYMMDD/LOCATION/storage/goog4_request.")
    if scope[:8] != date[:8]:
        raise invalid("The date of X-Goog-Credential is not that of X-Goog-Date.")
    if email != verifier.email:
        raise access_denied(f"{email} does not have storage.objects access to the Google Cloud Storage object.")
    return started, scope


def _canonical_request(arrived: Arrived, pairs: list[tuple[str, str]], names: list[str]) -> str:
    headers = _canonical_headers(arrived.headers, names)
    payload = headers.get("x-goog-content-sha256", "UNSIGNED-PAYLOAD")
    if payload != "UNSIGNED-PAYLOAD":
        raise StorageError(501, "NotImplemented", "A signed payload is not supported here.")
    path = quote(decode(arrived.path), safe="/~")
    query = "&".join(sorted(f"{quote(n, safe='~')}={quote(v, safe='~')}" for n, v in pairs if n != _SIGNATURE))
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    return "\n".join((arrived.method, path, query, lines, ";".join(names), payload))


def _canonical_headers(arrived: list[tuple[str, str]], names: list[str]) -> dict[str, str]:
    """The signed headers in order. Every one must have come, and every x-goog-* that came must be signed."""
    if names != sorted(set(names)) or any(name != name.lower().strip() for name in names):
        raise invalid("X-Goog-SignedHeaders must be lower-case names, each once, in order.")
    if "host" not in names:
        raise malformed_header("host", "The host header must be signed.")
    values: dict[str, list[str]] = {}
    for name, value in arrived:
        values.setdefault(name.lower(), []).append(" ".join(value.split()))
    for name in names:
        if name not in values:
            raise malformed_header(name, "Header was included in signedheaders, but not in the request.")
    for name in values:
        if name.startswith("x-goog-") and name not in names:
            raise malformed_header(name, "Header was included in the request, but not in signedheaders.")
    return {name: ",".join(values[name]) for name in names}
