"""TLS for tests: a certificate, and a front for servers that were built without it."""

import asyncio
import datetime
import ipaddress
import ssl
import threading
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def certificate(folder: Path) -> tuple[Path, Path]:
    """A private authority's certificate for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(*pem))
    return folder / "cert.pem", folder / "key.pem"


PIECE = 1400
PIECE_SECONDS = 0.0005


async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter, size: int = 65536, pause: float = 0) -> None:
    """Pass on what comes, a piece at a time."""
    while received := await source.read(size):
        target.write(received)
        if pause:
            await target.drain()
            await asyncio.sleep(pause)
    target.close()


class TlsFront:
    """TLS before a server that speaks none; with `asked`, as Postgres does it: a client asks for it first.

    What it sends comes in pieces smaller than a TLS record, as over a network.
    """

    def __init__(self, cert: Path, key: Path, upstream: tuple[str, int], *, asked: bool = False):
        self._asked = asked
        self.port = self._whole_port = 0
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(cert, key)
        self._upstream = upstream
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._asked:
            await reader.readexactly(8)
            writer.write(b"S")
        await writer.start_tls(self._tls)
        from_server, to_server = await asyncio.open_connection(*self._upstream)

        await asyncio.gather(copy(reader, to_server), copy(from_server, writer), return_exceptions=True)

    async def _cut(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_front, to_front = await asyncio.open_connection("127.0.0.1", self._whole_port)
        both = copy(reader, to_front), copy(from_front, writer, PIECE, PIECE_SECONDS)
        await asyncio.gather(*both, return_exceptions=True)

    def __enter__(self) -> "TlsFront":
        self._thread.start()
        self._whole_port, self.port = self._listen(self._serve), self._listen(self._cut)
        return self

    def _listen(self, serve: Any) -> int:
        starting = asyncio.start_server(serve, "127.0.0.1", 0)
        server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(5)
        return server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
