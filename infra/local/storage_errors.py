"""Errors as Cloud Storage gives them: XML for `/bucket/object`, JSON for `/storage/v1`.

Codes: https://cloud.google.com/storage/docs/xml-api/reference-status and …/docs/json_api/v1/status-codes.
"""

from typing import Any
from xml.sax.saxutils import escape

_REASONS = {
    400: "invalid",
    403: "forbidden",
    404: "notFound",
    405: "methodNotAllowed",
    409: "conflict",
    412: "conditionNotMet",
    413: "uploadTooLarge",
    416: "requestedRangeNotSatisfiable",
    501: "notImplemented",
}


class StorageError(Exception):
    """A refusal. `elements` are further children of the XML error, such as StringToSign."""

    def __init__(self, status: int, code: str, message: str, details: str = "", **elements: str):
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message
        self.details = details
        self.elements = elements

    def xml(self) -> bytes:
        """The XML API's body."""
        children = {"Code": self.code, "Message": self.message, "Details": self.details, **self.elements}
        inner = "".join(f"<{name}>{escape(_printable(text))}</{name}>" for name, text in children.items() if text)
        return f"<?xml version='1.0' encoding='UTF-8'?><Error>{inner}</Error>".encode()

    def json(self) -> dict[str, Any]:
        """The JSON API's body."""
        message = f"{self.message} {self.details}".strip()
        reason = _REASONS.get(self.status, "backendError")
        return {
            "error": {
                "code": self.status,
                "message": message,
                "errors": [{"message": message, "domain": "global", "reason": reason}],
            }
        }


def _printable(text: str) -> str:
    """Without what XML 1.0 can't carry: control characters and lone surrogates."""
    return "".join(c if c in "\t\n\r" or (c >= " " and not "\ud800" <= c <= "\udfff") else "�" for c in text)


def invalid(details: str) -> StorageError:
    """400 with what is wrong."""
    return StorageError(400, "InvalidArgument", "Invalid argument.", details)


def malformed_header(name: str, details: str) -> StorageError:
    """400 for one header."""
    return StorageError(
        400, "MalformedSecurityHeader", "Your request has a malformed header.", details, ParameterName=name
    )


def no_such_key(bucket: str, name: str) -> StorageError:
    """404 for an object."""
    return StorageError(404, "NoSuchKey", "The specified key does not exist.", f"No such object: {bucket}/{name}")


def no_such_bucket(bucket: str) -> StorageError:
    """404 for a bucket."""
    return StorageError(404, "NoSuchBucket", "The specified bucket does not exist.", f"Bucket: {bucket}")


def no_such_upload() -> StorageError:
    """404 for a resumable upload."""
    return StorageError(404, "NoSuchUpload", "The requested upload was not found.")


def access_denied(details: str) -> StorageError:
    """403."""
    return StorageError(403, "AccessDenied", "Access denied.", details)


def precondition_failed() -> StorageError:
    """412: a generation or metageneration is not the one named."""
    return StorageError(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold.")


def too_large(most: int) -> StorageError:
    """400: over x-goog-content-length-range."""
    return StorageError(
        400,
        "EntityTooLarge",
        "Your proposed upload is larger than the maximum object size specified in your request.",
        f"The most allowed is {most} bytes.",
    )


def too_small(least: int) -> StorageError:
    """400: under x-goog-content-length-range."""
    return StorageError(
        400,
        "EntityTooSmall",
        "Your proposed upload is smaller than the minimum object size specified in your request.",
        f"The least allowed is {least} bytes.",
    )


def method_not_allowed() -> StorageError:
    """405."""
    return StorageError(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")
