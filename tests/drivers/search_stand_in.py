"""As much of OpenSearch as a sink needs, in memory: streams of one index each, in which `create` takes an id once.

It shows what several processes of a sink do. That a real server takes what we send is shown with a real server.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

STREAM = "footfall-events"
NO_FIT = "mapper_parsing_exception"
Answer = tuple[int, Any]


class Streams:
    """The documents of each stream by id, and how many came again.

    `refuses`: what is answered in its place; a pair of status and error type is what every second document gets.
    `is_bad`: which documents do not fit the mapping.
    """

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, Any]] = {}
        self.again = 0
        self.refuses: Answer | None = None
        self.refuses_half: tuple[int, str] | None = None
        self.is_bad: Callable[[Any], bool] = lambda _document: False
        self.refused = 0
        self._made_anew = 0
        self._template: Any = None
        self._lock = threading.Lock()

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        with self._lock:
            if self.refuses is not None:
                self.refused += 1
                return self.refuses
            if method == "PUT":
                return self._made(path, body)
            if path == "/_bulk":
                return 200, {"items": list(self._created(body.splitlines()))}
            if path.endswith("/_search"):
                return 200, {"hits": {"hits": list(self._newest())}}
            if path.endswith("/_mapping") and path.split("/")[1] not in self.documents:
                return 404, {}
            uuid = f"uuid-{self._made_anew}"
            return 200, {
                "version": {"distribution": "opensearch"},
                "data_streams": [
                    {"name": name, "indices": [{"index_name": name, "index_uuid": uuid}]} for name in self.documents
                ],
                STREAM: self._template,
            }

    def lose(self, *streams: str) -> None:
        """Deletes streams; without names all, and the template too: it is another cluster."""
        with self._lock:
            self._template = self._template if streams else None
            for stream in streams or list(self.documents):
                del self.documents[stream]

    def make_anew(self) -> None:
        """Deletes the documents; the engine makes the streams anew by the template, as with the next document."""
        with self._lock:
            self._made_anew += 1
            self.documents = {stream: {} for stream in self.documents}

    def _made(self, path: str, body: bytes) -> Answer:
        if path.startswith("/_index_template/"):
            self._template = json.loads(body)["template"]
            return 200, {}
        there = STREAM in self.documents
        self.documents.setdefault(STREAM, {})
        return 400 if there else 200, {}

    def _newest(self) -> Iterator[Any]:
        """A document that is stored, if there is any."""
        for documents in self.documents.values():
            for name, document in reversed(documents.items()):
                yield {"_id": name, "_source": document}
                return

    def _created(self, lines: list[bytes]) -> Iterator[Any]:
        for number, (action, document) in enumerate(zip(lines[::2], lines[1::2], strict=True)):
            where = json.loads(action)["create"]
            if self.refuses_half is not None and number % 2 == 0:
                self.refused += 1
                status, error = self.refuses_half
                yield {"create": {"status": status, "_index": where["_index"], "error": {"type": error}}}
                continue
            if self.is_bad(json.loads(document)):
                self.refused += 1
                yield {"create": {"status": 400, "_index": where["_index"], "error": {"type": NO_FIT}}}
                continue
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
            told = found if isinstance(found, bytes) else json.dumps(found).encode()
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
