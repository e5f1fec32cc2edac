"""Tokens: access tokens (JWT, HS256 alone), the encrypted session cookie, opaque secrets, keyed codes.

Keys have a `kid`: the first of `TOKEN_KEYS` signs, all verify, so that a key is rotated by putting a new one in front.
"""

import base64
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from functools import cache
from typing import Any, Final

import jwt
import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared.kernel import ids
from shared.kernel.config import settings
from shared.kernel.problems import Unauthorized

ALGORITHM: Final = "HS256"
ACCESS_SECONDS: Final = 15 * 60
AUDIENCE: Final = "i9lyfe"
COOKIE_NAME: Final = "session"
_NONCE_BYTES: Final = 12
_MEMORY: Final = 10_000


class Claims(msgspec.Struct, frozen=True):
    """What a verified access token says. `expires_at` in seconds since the epoch."""

    user_id: int
    session_id: int
    expires_at: int


# Verifying costs 54 µs (DESIGN); a token that was verified once stays so until it expires or is pushed out.
_verified: OrderedDict[str, Claims] = OrderedDict()


def issue_access(user_id: int, session_id: int) -> tuple[str, int]:
    """A signed access token, and its expiry in milliseconds since the epoch."""
    kid, key = next(iter(settings().token_keys.items()))
    issued = int(time.time())
    expires = issued + ACCESS_SECONDS
    payload = {
        "sub": ids.encode(user_id),
        "sid": ids.encode(session_id),
        "aud": AUDIENCE,
        "iat": issued,
        "exp": expires,
    }
    return jwt.encode(payload, key, algorithm=ALGORITHM, headers={"kid": kid}), expires * 1000


def verify_access(token: str) -> Claims:
    """The claims of an access token. Raises Unauthorized for one forged, expired, or of a foreign key or algorithm."""
    claims = _verified.get(token)
    if claims is None:
        claims = _verify(token)
        _verified[token] = claims
        if len(_verified) > _MEMORY:
            _verified.popitem(last=False)
    if claims.expires_at <= time.time():
        _verified.pop(token, None)
        raise Unauthorized("token_expired", "The access token has expired. Refresh the session.")
    return claims


def _verify(token: str) -> Claims:
    try:
        key = settings().token_keys[str(jwt.get_unverified_header(token).get("kid"))]
        payload: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            options={"require": ["exp", "sub", "sid", "aud"]},
        )
        return Claims(ids.decode(payload["sub"]), ids.decode(payload["sid"]), int(payload["exp"]))
    except jwt.ExpiredSignatureError:
        raise Unauthorized("token_expired", "The access token has expired. Refresh the session.") from None
    except (jwt.InvalidTokenError, KeyError, ValueError, TypeError):
        raise Unauthorized("invalid_token", "The access token is not valid.") from None


@cache
def _ciphers() -> dict[str, AESGCM]:
    return {kid: AESGCM(key) for kid, key in settings().cookie_keys.items()}


def seal(plain: bytes) -> bytes:
    """`plain` under AES-256-GCM with the first cookie key: its kid, a zero byte, the nonce, the ciphertext."""
    kid, cipher = next(iter(_ciphers().items()))
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return kid.encode() + b"\0" + nonce + cipher.encrypt(nonce, plain, kid.encode())


def unseal(sealed: bytes) -> bytes:
    """What was sealed. Raises ValueError for what was not sealed by us, or under a key that is gone."""
    kid, _, body = sealed.partition(b"\0")
    try:
        return _ciphers()[kid.decode()].decrypt(body[:_NONCE_BYTES], body[_NONCE_BYTES:], kid)
    except (KeyError, UnicodeDecodeError, InvalidTag):
        raise ValueError("not sealed by us") from None


def seal_cookie(token: str) -> str:
    """The session cookie's value: the access token, sealed."""
    return base64.urlsafe_b64encode(seal(token.encode())).rstrip(b"=").decode()


def open_cookie(value: str) -> str:
    """The access token in a session cookie. Raises Unauthorized for one not sealed by us."""
    try:
        return unseal(base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))).decode()
    except ValueError:
        raise Unauthorized("invalid_cookie", "The session cookie is not valid.") from None


def new_secret() -> str:
    """An opaque token of 256 random bits. Only its `digest` is ever stored."""
    return secrets.token_urlsafe(32)


def digest(secret: str) -> bytes:
    """What is stored of an opaque token: its SHA-256. It has 256 bits of entropy, so no salt or stretching is due."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def fingerprint(message: bytes, like: bytes = b"") -> bytes:
    """What is stored of a message that may hold a password: the id of a key, a zero byte, the HMAC-SHA256 under it.

    A hash alone would let who has the database try passwords. Made under the key of the fingerprint `like`, if that is
    still ours, so that the two can be compared; else under the first.
    """
    keys = settings().token_keys
    kid = like.partition(b"\0")[0].decode("utf-8", "replace")
    kid = kid if kid in keys else next(iter(keys))
    return kid.encode() + b"\0" + hmac.digest(keys[kid], b"fingerprint:" + message, "sha256")


def code_for(purpose: str, subject: int, kid: str | None = None) -> tuple[str, str]:
    """The six-digit code for `subject`, and the key id it was made under.

    Derived, not stored: neither the database nor an event carries a code, and who sends it makes it again.
    """
    keys = settings().token_keys
    kid = kid if kid in keys else next(iter(keys))
    mac = hmac.digest(keys[kid], f"code:{purpose}:{subject}".encode(), "sha256")
    return f"{int.from_bytes(mac[:8], 'big') % 1_000_000:06d}", kid


def matches(given: str, expected: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode())
