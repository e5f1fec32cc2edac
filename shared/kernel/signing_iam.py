"""Signing without a key: IAM's signBlob with the identity that the process runs as.

Apart from kernel.storage, so that google.auth is imported only where there is no key file: in the cloud.
"""

from collections.abc import Callable
from typing import Any

from google.auth import iam
from google.auth.credentials import Signing

Request = Callable[..., Any]  # google.auth's transport, with a time-out


class IamCredentials(Signing):
    """What Cloud Storage's client needs to sign a URL.

    The account must have roles/iam.serviceAccountTokenCreator on itself. One request a
    signature, which google.auth retries. Raises google.auth's TransportError or RefreshError.
    """

    def __init__(self, own: Any, request: Request):
        if own.service_account_email == "default":  # the metadata server tells the name with the first token
            own.refresh(request)
        self._email: str = own.service_account_email
        self._signer: Any = iam.Signer(request, own, self._email)

    def sign_bytes(self, message: bytes) -> bytes:
        """RSASSA-PKCS1-v1_5 with SHA-256, by the account's Google-managed key."""
        return self._signer.sign(message)

    @property
    def signer_email(self) -> str:
        """The service account."""
        return self._email

    @property
    def signer(self) -> Any:
        """What signs."""
        return self._signer
