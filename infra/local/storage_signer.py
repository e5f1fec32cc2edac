"""The local stack's service account: its key signs upload URLs, and the storage emulator checks them against it."""

import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

EMAIL = "uploads@i9lyfe-local.iam.gserviceaccount.com"


def make_signer(path: str | os.PathLike[str]) -> None:
    """Write a service-account file with a fresh 2048-bit RSA key to `path`, readable by its owner alone.

    The form is the one that Google's own libraries load. Nothing half-written is ever at `path`. Raises OSError.
    """
    target = Path(path)
    key = generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    account = {
        "type": "service_account",
        "project_id": "i9lyfe-local",
        "private_key_id": public[-20:].hex(),
        "private_key": pem,
        "client_email": EMAIL,
        "client_id": "0",
        "token_uri": "https://oauth2.googleapis.com/token",
        "universe_domain": "googleapis.com",
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=target.parent, prefix=".signer-")  # mkstemp makes it 0600
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(account, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, target)
    except BaseException:
        os.unlink(draft)
        raise


@dataclass(frozen=True)
class Verifier:
    """Whose signatures are taken, and the public half of their key."""

    email: str
    key: RSAPublicKey

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Verifier":
        """From a service-account file. Raises OSError, or ValueError saying what is wrong with it."""
        try:
            account = json.loads(Path(path).read_text())
            email, pem = account["client_email"], account["private_key"]
            key = load_pem_private_key(pem.encode(), password=None)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{path} is no service-account file: {error!r}") from None
        public = key.public_key()
        if not isinstance(public, RSAPublicKey):
            raise ValueError(f"{path}: its key is not an RSA key")
        return cls(email, public)

    def accepts(self, signature: str, text: str) -> bool:
        """Whether `signature` (hex) over `text` was made with the private key (RSASSA-PKCS1-v1_5, SHA-256)."""
        if not re.fullmatch(r"(?:[0-9a-fA-F]{2})+", signature):
            return False
        try:
            self.key.verify(bytes.fromhex(signature), text.encode(), PKCS1v15(), SHA256())
        except InvalidSignature:
            return False
        return True
