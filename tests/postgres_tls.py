"""TLS before a PostgreSQL that was built without it, as the embedded one is: as with only `hostssl` in pg_hba.conf.

It answers SSLRequest (PostgreSQL's protocol, 54.2.10), shakes hands, and hands on what follows. To a client that asks
for no TLS it says what PostgreSQL says.
"""

import asyncio
import contextlib
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SSL_REQUEST = struct.pack(">II", 8, 80877103)
NO_ENTRY = b"SFATAL\0VFATAL\0C28000\0Mno pg_hba.conf entry for host, no encryption\0\0"


class TlsFront:
    """`port` speaks TLS; `connections` counts those that completed their handshake."""

    def __init__(self, target: int, certificate: Path, client_authority: Path) -> None:
        self._target = target
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._context.load_verify_locations(client_authority)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self.connections = 0
        self.port = 0

    async def serve(self, started: threading.Event, end: asyncio.Event) -> None:
        server = await asyncio.start_server(self._serve_one, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await end.wait()
        server.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            try:
                if await reader.readexactly(8) != SSL_REQUEST:
                    writer.write(b"E" + struct.pack(">I", len(NO_ENTRY) + 4) + NO_ENTRY)
                    return
                writer.write(b"S")
                await writer.start_tls(self._context)
                self.connections += 1
                behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", self._target)
                await asyncio.gather(_copy(reader, behind_writer), _copy(behind_reader, writer))
            finally:
                writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


@contextmanager
def postgres_tls(target: int, certificate: Path, client_authority: Path) -> Iterator[TlsFront]:
    """Serves for the body, before the server at port `target`."""
    front, started = TlsFront(target, certificate, client_authority), threading.Event()
    loop, end = asyncio.new_event_loop(), asyncio.Event()

    def run() -> None:
        loop.set_exception_handler(lambda _loop, _context: None)  # clients go in the middle; that is their affair
        loop.run_until_complete(front.serve(started, end))
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.05))
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    started.wait(20)
    try:
        yield front
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(20)
