"""Asks a port which language it speaks: a peer that only hangs up may not have understood."""

import asyncio
import contextlib
import ssl
import struct

PATIENCE = 2.0  # seconds
API_VERSIONS, CORRELATION = 18, 7
ALERT, HANDSHAKE = b"\x15", b"\x16"  # first byte of a TLS record


async def speaks_plaintext(host: str, port: int) -> bool:
    """Whether the port answers ApiVersions version 0, which Kafka answers before any authentication."""
    request = struct.pack(">hhih", API_VERSIONS, 0, CORRELATION, -1)
    answer = await _answer(host, port, struct.pack(">i", len(request)) + request, 8)
    return len(answer) == 8 and struct.unpack(">i", answer[4:])[0] == CORRELATION


async def speaks_tls(host: str, port: int) -> bool:
    """Whether the port answers a greeting of TLS with TLS, be it a refusal."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    greeting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(incoming, outgoing, server_hostname=host)
    with contextlib.suppress(ssl.SSLWantReadError):
        greeting.do_handshake()
    return await _answer(host, port, outgoing.read(), 1) in (ALERT, HANDSHAKE)


async def _answer(host: str, port: int, greeting: bytes, size: int) -> bytes:
    """Returns the first bytes of the answer; empty if there is none."""
    with contextlib.suppress(OSError, EOFError, TimeoutError):
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(greeting)
                return await reader.readexactly(size)
            finally:
                writer.close()
                await writer.wait_closed()
    return b""
