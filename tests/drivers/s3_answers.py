"""A proxy before a server of S3 that answers some requests as other servers do, or badly."""

import http.client
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from tests.drivers.archiving import Bucket

# Of a request's method and path: "", "terse", "page", "half", "stall", "short", "old", "older", "lost", "gone",
# "silent", "unread" (its body), "taken" (as if it were), a status (such as "403"), a status with a page as its body
# ("403 page") or with a code of S3 ("200 InternalError"); "done " before a status: the request is done all the same.
Judge = Callable[[str, str], str]

PAGE = b"<html>Please sign in.</html>"
REFUSAL = '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{}</Code><Message>Refused.</Message></Error>'
HOP = {"connection", "content-length", "date", "expect", "server", "transfer-encoding"}


class Answers:
    """Its address is `url`; what it does to a request, `judge` says."""

    def settings_for(self, bucket: Bucket) -> dict[str, str]:
        """The bucket's settings, with this in front of its server."""
        return {**bucket.settings, "ARCHIVE_S3_ENDPOINT_URL": self.url}

    def __init__(self, endpoint: str) -> None:
        self._target = urlsplit(endpoint).netloc
        self.judge: Judge = lambda _method, _path: ""
        self.requests: list[tuple[str, str]] = []
        self.unproven: list[str] = []  # paths of what came without a checksum, which a bucket with a lock refuses
        self.names_on_a_page: int | None = None  # of a listing; None: as many as the server has on one
        self.closing = threading.Event()
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
        fate = self.judge(request.command, request.path)
        self.requests.append((request.command, request.path))
        names = " ".join(request.headers).lower()
        if request.command == "PUT" and not re.search("content-md5|x-amz-(checksum|trailer)", names):
            self.unproven.append(request.path)
        if fate == "unread":
            self.closing.wait()
            return _hang_up(request)
        body = _body(request)
        if fate in {"silent", "gone"}:
            self.closing.wait(None if fate == "silent" else 0)
            return _hang_up(request)
        if fate.startswith("done "):
            self._forward(request, body)
            fate = fate.removeprefix("done ")
        if fate in _BY_ITSELF or fate[:3].isdigit():
            return _answer_by_itself(request, fate)
        return self._answer_as_the_server(request, body, fate)

    def _answer_as_the_server(self, request: BaseHTTPRequestHandler, body: bytes, fate: str) -> None:
        status, headers, answer, length = self._forward(request, body)
        if fate == "lost":
            return _hang_up(request)
        if fate == "terse":  # as MinIO and Ceph answer: the code, and not which condition
            answer = re.sub(rb"<Condition>.*?</Condition>", b"", answer)
            length = len(answer) if answer else length
        if fate in {"old", "older"}:  # a listing without its last name, or without any
            gone = rb"(?s)<Contents>(?:(?!<Contents>).)*</Contents>" + (rb"(?!.*<Contents>)" if fate == "old" else b"")
            answer = re.sub(gone, b"", answer)
            length = len(answer)
        cut = fate in {"half", "stall", "short"} and request.command == "GET"
        answer = answer[: len(answer) // 2] if cut else answer
        _send(request, status, headers, answer, len(answer) if fate == "short" and cut else length)
        if fate == "stall" and cut:
            self.closing.wait()
        return _hang_up(request) if fate in {"half", "stall"} and cut else None

    def _forward(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes, int]:
        server = http.client.HTTPConnection(self._target)
        kept = {name: value for name, value in request.headers.items() if name.lower() not in HOP}
        page = f"&max-keys={self.names_on_a_page}" if self.names_on_a_page and "list-type" in request.path else ""
        server.request(request.command, f"{request.path}{page}", body, kept)
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


_BY_ITSELF = {"taken": ({"ETag": '"0"'}, b""), "page": ({"Content-Type": "text/html"}, PAGE)}  # with 200


def _answer_by_itself(request: BaseHTTPRequestHandler, fate: str) -> None:
    if fate in _BY_ITSELF:
        headers, body = _BY_ITSELF[fate]
        return _send(request, 200, headers, body, len(body))
    status, _, said = fate.partition(" ")
    body = PAGE if said == "page" else REFUSAL.format(said).encode() if said else b""
    kind = "application/xml" if said != "page" else "text/html"
    return _send(request, int(status), {"Content-Type": kind}, body, len(body))


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
        proxy.closing.set()
        proxy.server.shutdown()
        proxy.server.server_close()
        thread.join()
