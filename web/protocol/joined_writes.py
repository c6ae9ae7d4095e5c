"""Head and body of a whole answer in one write: uvicorn writes them apart, and each write is a system call.

The call was a third of the native samples of the command side at 64 connections (docs/performance.md), and a client
woken twice costs again. An answer asks for it by `scope[HOLD_KEY]`; streams never do, so their head leaves at once.
"""

import asyncio
import socket
import struct
from contextlib import suppress
from typing import Any

NO_LINGER = struct.pack("ii", 1, 0)
MAX_UNSENT_BYTES = 131_072  # that wait in the kernel for one client


class JoinedWrites:
    """A transport that can hold back one write until the next."""

    __slots__ = ("_extra", "_held", "_holding", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._holding = False
        self._extra = b""
        self._held = b""

    def hold(self, headers: bytes) -> None:
        """The next write is an answer's head: it waits for the body, and gets `headers`, whole lines, at its end."""
        self._holding, self._extra = True, headers

    def write(self, data: bytes) -> None:
        """Writes, or holds what `hold` announced."""
        if self._holding:
            self._holding, self._held = False, b"%b%b\r\n" % (data[:-2], self._extra)
        elif self._held:
            self._held, data = b"", self._held + data
            self._transport.write(data)
        else:
            self._transport.write(data)

    def is_closing(self) -> bool:
        """See asyncio."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Writes what is held, then closes."""
        if self._held:
            self.write(b"")
        self._transport.close()

    def write_eof(self) -> None:
        """Says that nothing more comes, where the transport can: TLS cannot say so and go on reading."""
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def reset(self) -> None:
        """Ends the connection as no sound end looks: by a reset."""
        connection = self._transport.get_extra_info("socket")
        if connection is not None and not self._transport.is_closing():
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        self._transport.abort()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def bound_unsent(connection: Any) -> None:
    """Else the kernel takes in megabytes, and is writable again only once a third of them is gone.

    A client that reads 20 KB a second would look as if it took nothing for a minute.
    """
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)  # of Linux and macOS
    if option is not None and connection is not None:
        with suppress(OSError):  # no TCP
            connection.setsockopt(socket.IPPROTO_TCP, option, MAX_UNSENT_BYTES)
