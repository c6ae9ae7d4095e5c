"""The sides as one ASGI application: alone in its process, or both together behind port 3000."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from litestar import Litestar, Request, Response
from litestar.exceptions import HTTPException
from litestar.handlers import ASGIRouteHandler

from telemetry.health import Probe
from telemetry.logs import get_logger
from web import envelope
from web.asgi import App, Takes
from web.docs_page import DOCS, docs_route
from web.middleware import Edge

FRAMEWORK_ERRORS = {404: "Not found", 405: "Method not allowed"}


class Side(Protocol):
    """What a side brings to the application."""

    @property
    def route_handlers(self) -> Sequence[ASGIRouteHandler]:
        """The routes."""
        ...

    @property
    def direct_routes(self) -> Mapping[str, App]:
        """Routes by path that pass by the router."""
        ...

    @property
    def exchanges(self) -> Mapping[bytes, Takes]:
        """By path, what may answer a POST without a task."""
        ...

    @property
    def probes(self) -> Mapping[str, Probe]:
        """The state of each dependency, by name."""
        ...

    @property
    def documents(self) -> Mapping[str, Callable[[], dict[str, Any]]]:
        """Its OpenAPI document, by the path that serves it."""
        ...

    @property
    def lifespan(self) -> Callable[[Litestar], AbstractAsyncContextManager[None]]:
        """Connects on the way in, drains on the way out."""
        ...


def web_app(name: str, *sides: Side, guard: Callable[[App], App] = lambda app: app) -> Edge:
    """All routes and probes of `sides` under one edge; `name` labels metrics and logs. `guard` is before the routes."""
    app: Any = Litestar(
        route_handlers=[route for side in sides for route in side.route_handlers],
        lifespan=[side.lifespan for side in sides],
        exception_handlers={HTTPException: framework_error, Exception: unforeseen_error},
        openapi_config=None,
        logging_config=None,
    )
    probes = {probe_name: probe for side in sides for probe_name, probe in side.probes.items()}
    direct = {path: route for side in sides for path, route in side.direct_routes.items()}
    documents = {path: document for side in sides for path, document in side.documents.items()}
    exchanges = {path: takes for side in sides for path, takes in side.exchanges.items()}
    return Edge(guard(app), name, probes, {**direct, DOCS: docs_route(documents)}, exchanges)


def framework_error(_request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """The framework's own refusals, in the envelope."""
    internal = error.status_code >= 500
    text = envelope.INTERNAL_ERROR if internal else FRAMEWORK_ERRORS.get(error.status_code, error.detail)
    return Response(
        envelope.failed(text), status_code=error.status_code, media_type="application/json", headers=error.headers
    )


def unforeseen_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """500, and nothing of the cause in the answer; the log has it."""
    get_logger("web").error("unforeseen_error", path=request.scope["path"], exc_info=error)
    return Response(envelope.failed(envelope.INTERNAL_ERROR), status_code=500, media_type="application/json")
