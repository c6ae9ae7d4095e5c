"""A TCP proxy that can break connections, delay traffic, hold one request back, or drop exactly one answer."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from chaos.stand.wire import Wire

CHUNK = 262_144  # bytes


class Proxy:
    """Forwards connections to `target`. Its methods may be called from any thread.

    A request "matters" if its `Wire` says so: a COMMIT of a batch, or a Produce.
    """

    def __init__(self, target: tuple[str, int], wire: Callable[[], Wire], port: int = 0) -> None:
        self._target, self._wire = target, wire
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._to_swallow = 0
        self._to_hold = False
        self._released = threading.Event()
        self.holding = threading.Event()  # set once a request is held back
        self.swallowed = 0  # dropped answers to requests that the server had carried out
        self.commits = 0  # requests so far that matter
        self.delay = 0.0  # seconds before each chunk, in both directions
        self._listener = self._listen(port)
        self.port = int(self._listener.getsockname()[1])

    def cut(self) -> None:
        """Breaks all connections and refuses new ones, as if the server were away."""
        self.release()
        _close(self._listener)
        with self._lock:
            doomed, self._open = self._open, set()
        for one in doomed:
            _close(one)

    def mend(self) -> None:
        """Accepts connections again on the same port."""
        self._listener = self._listen(self.port)

    def swallow(self, answers: int) -> None:
        """Drops the answers to the next `answers` requests that matter, and closes their connections."""
        with self._lock:
            self._to_swallow = answers

    def hold(self) -> None:
        """Holds the next request that matters back, until `release`."""
        self._released.clear()
        self.holding.clear()
        self._to_hold = True

    def release(self) -> None:
        """Forwards the request that is held back."""
        self._to_hold = False
        self._released.set()

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # cut
                return
            try:
                server = socket.create_connection(self._target, 5)
            except OSError:
                _close(client)
                continue
            server.settimeout(None)
            with self._lock:
                self._open |= {client, server}
            wire = self._wire()
            for carry, source, sink in ((self._requests, client, server), (self._answers, server, client)):
                threading.Thread(target=self._carry, args=(carry, source, sink, wire), daemon=True).start()

    def _carry(
        self,
        carry: Callable[[socket.socket, socket.socket, Wire, bytes], bool],
        source: socket.socket,
        sink: socket.socket,
        wire: Wire,
    ) -> None:
        with suppress(OSError):
            while chunk := source.recv(CHUNK):
                if self.delay:
                    time.sleep(self.delay)
                if not carry(source, sink, wire, chunk):
                    break
        with self._lock:
            self._open -= {source, sink}
        _close(source)
        _close(sink)

    def _requests(self, _client: socket.socket, server: socket.socket, wire: Wire, chunk: bytes) -> bool:
        out = b""
        for frame, matters in wire.requests(chunk):
            self.commits += matters
            if matters and self._to_hold:
                self._to_hold = False
                self.holding.set()
                self._released.wait()
            if matters and self._takes_one():
                wire.lose(frame)
            out += frame
        server.sendall(out)
        return True

    def _takes_one(self) -> bool:
        with self._lock:
            wanted = self._to_swallow > 0
            self._to_swallow -= wanted
        return wanted

    def _answers(self, _server: socket.socket, client: socket.socket, wire: Wire, chunk: bytes) -> bool:
        for frame in wire.answers(chunk):
            if not wire.is_lost(frame):
                client.sendall(frame)
            elif wire.is_last_lost(frame):
                with self._lock:
                    if wire.failed:
                        self._to_swallow += 1
                    else:
                        self.swallowed += 1
                return False
        return True


def _close(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)  # wakes threads that wait in accept or recv
    one.close()
