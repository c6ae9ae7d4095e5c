"""What is hot and stays plain ASGI. Every other path of a side is an idiomatic Litestar route (docs/decisions/0013).

A path is hot when the framework's share of one request was measured to be as large as the work itself, or when its
answer is a stream that is written piece by piece. Each has a declaration of its signature for the OpenAPI document, and
a test holds this list against the applications. The probes (`/health`, `/health/live`, `/health/ready`, `/metrics`) are
plain ASGI for another reason: processes without Litestar, such as the projector, serve them too.
"""

import re
from collections.abc import Callable, Mapping

from web.asgi import App, Receive, Scope, Send

HOT: Mapping[str, str] = {
    "/events/generate": "one command: a typed Litestar route without Kafka costs more than all of it with Kafka",
    "/events/generate/batch": "up to 1,000 commands: the body goes into one strict decoder as it came",
    "/events/processed": "a page is text of the database, joined; an export streams as fast as its client reads",
    "/users/{id}/events": "the same pages and exports, of one user",
    "/events/{eventId}": "one event, text of the database; also what a client asks after its command, again and again",
    "/events/feed": "a page of the log: what a consumer asks without pause",
    "/events/stream": "Server-Sent Events for as long as the client stays",
}

_parameter = re.compile(r"\{\w+\}").sub


class RawRoutes:
    """Hands a request to the hot route of its path; any other to `otherwise`."""

    def __init__(self, routes: Mapping[str, App], otherwise: App) -> None:
        """`routes`: by canonical path, in which `{name}` is one segment, percent-encoded.

        A path with an empty segment is no canonical one: its route gets what was sent so, and should refuse it.
        """
        self.routes = routes
        self._otherwise = otherwise
        self._exact = {path: app for path, app in routes.items() if "{" not in path}
        self._patterns = patterns({path: app for path, app in routes.items() if "{" in path and "//" not in path})
        self._with_empty_segments = patterns({path: app for path, app in routes.items() if "//" in path})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        found = self._otherwise if scope["type"] != "http" else self._route(scope)
        await found(scope, receive, send)

    def _route(self, scope: Scope) -> App:
        if b"//" in scope["raw_path"]:
            sent_as = scope["raw_path"].decode("latin-1")
            refusing = next((app for matches, app in self._with_empty_segments if matches(sent_as)), None)
            if refusing is not None:
                return refusing
        path = scope["path"]
        exact = self._exact.get(path)
        return exact or next((app for matches, app in self._patterns if matches(path)), self._otherwise)


def patterns(routes: Mapping[str, App]) -> list[tuple[Callable[[str], object], App]]:
    """What tells whether a path is one of the route, and the route."""
    return [(re.compile(_parameter("[^/]+", path)).fullmatch, app) for path, app in routes.items()]
