"""Structured logs: one JSON object a line, in Cloud Logging's special fields.

Source of the field names: Cloud Logging, "Special fields in structured payloads". What is passed as `extra` is kept
as fields; secrets and tokens are never passed.
"""

import asyncio
import logging
import os
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from shared.kernel import ids
from shared.kernel import ledger as ledgers
from shared.kernel.config import settings

# The trace of what is being handled: 32 hex digits (W3C Trace Context), or empty.
trace_id: ContextVar[str] = ContextVar("trace_id", default="")
_component = ""
_requests: Final = logging.getLogger("requests")

_encode_line = msgspec.json.Encoder(enc_hook=str).encode
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _CloudFormatter(logging.Formatter):
    def __init__(self, component: str, project: str):
        super().__init__()
        self.component = component
        self.project = project

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "severity": record.levelname,
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "message": record.getMessage(),
            "component": self.component,
        }
        for name, value in vars(record).items():
            if name not in _STANDARD:
                entry[name] = value
        trace = trace_id.get()
        if trace:
            entry["logging.googleapis.com/trace"] = f"projects/{self.project}/traces/{trace}"
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return _encode_line(entry).decode()


def setup(component: str) -> None:
    """Send this process's logs to stderr, a JSON object a line. `component` names the process."""
    global _component
    _component = component
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_CloudFormatter(component, settings().google_cloud_project))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings().log_level)
    # Their INFO is a line a request, without our fields; the request log has it with them.
    for noisy in ("uvicorn.access", "httpx", "google", "neo4j.notifications", "picows"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def request(
    *,
    target: str | None,
    request_id: str,
    user: int | None,
    method: str,
    path: str,
    status: int,
    seconds: float,
    bytes_out: int,
    ledger: ledgers.Ledger,
) -> None:
    """The line of one request. Written without the logging machinery: it is on every request's path."""
    if not _requests.isEnabledFor(logging.INFO):
        return
    entry: dict[str, Any] = {
        "severity": "ERROR" if status == 500 else "INFO",
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "message": f"{method} {path} {status}",
        "component": _component,
        "httpRequest": {
            "requestMethod": method,
            "requestUrl": path,
            "status": status,
            "responseSize": bytes_out,
            "latency": f"{seconds:.6f}s",
        },
        "target": target,
        "request_id": request_id,
        "user": None if user is None else ids.encode(user),
        "ledger": ledger,
    }
    trace = trace_id.get()
    if trace:
        entry["logging.googleapis.com/trace"] = f"projects/{settings().google_cloud_project}/traces/{trace}"
    if not _lines:
        asyncio.get_running_loop().call_soon(_write_lines)
    _lines.append(_encode_line(entry))


_lines: list[bytes] = []


def _write_lines() -> None:
    # Those of one turn of the event loop in one call of the system.
    lines = b"\n".join([*_lines, b""])
    _lines.clear()
    os.write(2, lines)
