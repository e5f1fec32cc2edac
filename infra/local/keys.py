"""The local stack's own passwords and keys: made once, kept in the data folder, readable by its owner alone."""

import base64
import json
import os
import secrets
from pathlib import Path

KEY_BYTES = 32
MEDIA_KEY_BYTES = 16  # as Cloud CDN's


def _key(size: int = KEY_BYTES) -> str:
    return "local:" + base64.urlsafe_b64encode(secrets.token_bytes(size)).rstrip(b"=").decode()


def write_private(path: Path, text: str) -> None:
    """Put `text` at `path`, whole or not at all, readable by its owner alone."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def load_or_make(path: Path) -> dict[str, str]:
    """The passwords of the stores and the keys of tokens and cookies kept at `path`; what is missing is made."""
    kept: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    made = {
        **{name: secrets.token_urlsafe(24) for name in ("postgres", "database", "valkey", "graph")},
        **{name: _key() for name in ("token_keys", "cookie_keys")},
        "media_keys": _key(MEDIA_KEY_BYTES),
    }
    if made.keys() - kept.keys():
        kept = made | kept
        write_private(path, json.dumps(kept, indent=2))
    return kept
