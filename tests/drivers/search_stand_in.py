"""As much of OpenSearch as a sink needs, in memory: streams of one index each, in which `create` takes an id once.

It shows what several processes of a sink do. That a real server takes what we send is shown with a real server.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

STREAM = "footfall-events"
Answer = tuple[int, Any]


class Streams:
    """The documents of each stream by id, and how many came again."""

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, Any]] = {}
        self.again = 0
        self._template: Any = None
        self._lock = threading.Lock()

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        with self._lock:
            if method == "PUT":
                return self._made(path, body)
            if path == "/_bulk":
                return 200, {"items": list(self._created(body.splitlines()))}
            if path.endswith("/_mapping") and STREAM not in self.documents:
                return 404, {}
            return 200, {
                "version": {"distribution": "opensearch"},
                "data_streams": [{"name": name, "indices": [{"index_name": name}]} for name in self.documents],
                STREAM: self._template,
            }

    def _made(self, path: str, body: bytes) -> Answer:
        if path.startswith("/_index_template/"):
            self._template = json.loads(body)["template"]
            return 200, {}
        there = STREAM in self.documents
        self.documents.setdefault(STREAM, {})
        return 400 if there else 200, {}

    def _created(self, lines: list[bytes]) -> Iterator[Any]:
        for action, document in zip(lines[::2], lines[1::2], strict=True):
            where = json.loads(action)["create"]
            stream = self.documents.setdefault(where["_index"], {})
            there = where["_id"] in stream
            self.again += there
            stream.setdefault(where["_id"], json.loads(document))
            yield {"create": {"status": 409 if there else 201, "_index": where["_index"]}}


@contextmanager
def search_stand_in() -> Iterator[tuple[str, Streams]]:
    """Yields its URL and what it has."""
    streams = Streams()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answered(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, found = streams.answer(self.command, self.path, body)
            told = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        do_GET = do_PUT = do_POST = _answered  # noqa: N815 - as http.server wants it

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", streams
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
