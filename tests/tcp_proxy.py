"""A TCP proxy to harm real connections with: cut, freeze, forget, or lose one answer, without touching the server."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

from tests.patience import PATIENCE

CHUNK = 65_536  # bytes


class TcpProxy:
    """Forwards connections to `target`, and does them the harm that its methods name. Threads: safe from anywhere."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._open: set[socket.socket] = set()
        self._forgotten: set[socket.socket] = set()
        self._losing: set[socket.socket] = set()
        self._marker: bytes | None = None
        self._after = b""
        self._freezing_at: bytes | None = None
        self._lock = threading.Lock()
        self._requests_flow, self._answers_flow = threading.Event(), threading.Event()
        self.holding = threading.Event()  # bytes arrived that `freeze` holds back
        self.answer_lost = threading.Event()  # what `lose_answer_to` asked for has happened
        self.thaw()
        self._threads: list[threading.Thread] = []
        self._listener = self._listen(0)
        self.port = int(self._listener.getsockname()[1])

    def in_front_of(self, url: str) -> str:
        """The same URL, through this proxy."""
        parts = urlsplit(url)
        credentials = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{credentials}@127.0.0.1:{self.port}"))

    def connections(self) -> int:
        """How many client connections are open now."""
        with self._lock:
            return len(self._open) // 2

    def cut(self) -> None:
        """The server is away: its port refuses."""
        self.thaw()
        self._close(self._listener)
        with self._lock:
            doomed = list(self._open)
        for one in doomed:
            self._close(one)

    def mend(self) -> None:
        """The server is back, on the same port."""
        self._listener = self._listen(self.port)

    def freeze(self, *, requests: bool = True, answers: bool = True) -> None:
        """The server hangs: connections stay open and nothing comes through, in the directions named."""
        self.holding.clear()
        for flow, wanted in ((self._requests_flow, requests), (self._answers_flow, answers)):
            if wanted:
                flow.clear()

    def freeze_at(self, marker: bytes) -> None:
        """Freezes the requests when one comes that contains `marker`, which is held back itself."""
        self.holding.clear()
        self._freezing_at = marker

    def thaw(self) -> None:
        """What was held back flows on."""
        self._requests_flow.set()
        self._answers_flow.set()

    def forget(self) -> None:
        """The present connections stay open and lead nowhere from now on; new ones work."""
        with self._lock:
            self._forgotten |= self._open

    def lose_answer_to(self, marker: bytes, after: bytes = b"") -> None:
        """Delivers the next request that contains `marker`, swallows its answer, and ends that connection.

        `after`: only on a connection that sends this from now on and then the marker, where several do the same.
        """
        self.answer_lost.clear()
        self._after = after
        self._marker = marker

    def close(self) -> None:
        """Ends everything, threads too."""
        self.cut()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port))
        self._start(self._accept, listener)
        return listener

    def _start(self, run: object, *arguments: object) -> None:
        assert callable(run)
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # cut
                return
            try:
                server = socket.create_connection(self._target, PATIENCE)
            except OSError:
                self._close(client)
                continue
            server.settimeout(None)
            with self._lock:
                self._open |= {client, server}
            self._start(self._carry_requests, client, server)
            self._start(self._carry_answers, server, client)

    def _carry_requests(self, client: socket.socket, server: socket.socket) -> None:
        sent: bytes | None = None  # the newest `after` that this connection has sent since it was asked for
        with suppress(OSError):
            while chunk := client.recv(CHUNK):
                if self._after in chunk:
                    sent = self._after
                if self._freezing_at is not None and self._freezing_at in chunk:
                    self._freezing_at = None
                    self._requests_flow.clear()
                self._wait_for(self._requests_flow)
                if sent == self._after and self._marker is not None and self._marker in chunk:
                    self._marker = None
                    self._losing.add(server)
                if client not in self._forgotten:
                    server.sendall(chunk)
        self._end(client, server)

    def _carry_answers(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while chunk := server.recv(CHUNK):
                self._wait_for(self._answers_flow)
                if server in self._losing:
                    self.answer_lost.set()
                    break
                if server not in self._forgotten:
                    client.sendall(chunk)
        self._end(client, server)

    def _wait_for(self, flow: threading.Event) -> None:
        if not flow.is_set():
            self.holding.set()
            flow.wait()

    def _end(self, client: socket.socket, server: socket.socket) -> None:
        for one in (client, server):
            self._close(one)

    def _close(self, one: socket.socket) -> None:
        with self._lock:
            self._open.discard(one)
            self._forgotten.discard(one)
            self._losing.discard(one)
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)  # wakes whoever waits in accept or recv
        one.close()


@contextmanager
def tcp_proxy(host: str, port: int) -> Iterator[TcpProxy]:
    """A proxy in front of host:port for the body."""
    proxy = TcpProxy((host, port))
    try:
        yield proxy
    finally:
        proxy.close()
