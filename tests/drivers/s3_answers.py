"""A proxy before a server of S3 that answers some requests as other servers do, or badly."""

import http.client
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

Judge = Callable[[str, str], str]  # of a request's method and path: "", "terse", "page", "half" or "lost"

PAGE = b"<html>Please sign in.</html>"
HOP = {"connection", "content-length", "date", "expect", "server", "transfer-encoding"}


class Answers:
    """Its address is `url`; what it does to a request, `judge` says."""

    def __init__(self, endpoint: str) -> None:
        self._target = urlsplit(endpoint).netloc
        self.judge: Judge = lambda _method, _path: ""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                outer._answer(self)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_one  # noqa: N815

            def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the base class names it so
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body, fate = _body(request), self.judge(request.command, request.path)
        if fate == "page":  # of a proxy in between
            return _send(request, 200, {"Content-Type": "text/html"}, PAGE, len(PAGE))
        status, headers, answer, length = self._forward(request, body)
        if fate == "lost":
            return _hang_up(request)
        if fate == "terse":  # as MinIO and Ceph answer: the code, and not which condition
            answer = re.sub(rb"<Condition>.*?</Condition>", b"", answer)
            length = len(answer) if answer else length
        _send(request, status, headers, answer[: len(answer) // 2] if fate == "half" else answer, length)
        return _hang_up(request) if fate == "half" else None

    def _forward(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes, int]:
        server = http.client.HTTPConnection(self._target)
        kept = {name: value for name, value in request.headers.items() if name.lower() not in HOP}
        server.request(request.command, request.path, body, kept)
        found = server.getresponse()
        answer = found.read()
        headers = {name: value for name, value in found.getheaders() if name.lower() not in HOP}
        length = int(found.getheader("Content-Length") or len(answer))
        server.close()
        return found.status, headers, answer, length


def _body(request: BaseHTTPRequestHandler) -> bytes:
    if "chunked" not in request.headers.get("Transfer-Encoding", ""):
        return request.rfile.read(int(request.headers.get("Content-Length") or 0))
    found = b""
    while size := int(request.rfile.readline().partition(b";")[0], 16):
        found += request.rfile.read(size)
        request.rfile.readline()
    while request.rfile.readline().strip():
        pass
    return found


def _send(request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], answer: bytes, length: int) -> None:
    request.send_response(status)
    for name, value in {**headers, "Content-Length": str(length)}.items():
        request.send_header(name, value)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(answer)
        request.wfile.flush()


def _hang_up(request: BaseHTTPRequestHandler) -> None:
    request.close_connection = True
    request.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def answers_before(endpoint: str) -> Iterator[Answers]:
    """Runs a proxy before a server of S3."""
    proxy = Answers(endpoint)
    proxy.server.daemon_threads = True
    thread = threading.Thread(target=proxy.server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield proxy
    finally:
        proxy.server.shutdown()
        proxy.server.server_close()
        thread.join()
