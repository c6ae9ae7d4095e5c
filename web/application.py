"""The sides as one ASGI application: alone in its process, or both together behind port 3000."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from litestar import Litestar, Request, Response
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException, MethodNotAllowedException
from litestar.handlers import BaseRouteHandler
from litestar.types import ControllerRouterHandler

from telemetry.health import Probe
from telemetry.logs import get_logger
from web import envelope
from web.access import template_of
from web.asgi import App, Receive, Scope, Send
from web.docs.page import docs_config
from web.fast_handler import FastHandler
from web.hot_routes import RawRoutes
from web.middleware import Middleware
from web.policies.access import check_access
from web.policies.decisions import RequestPolicy
from web.policies.identity import with_probes_of
from web.policies.refusal_pages import RefusalPages
from web.transport.transport import PLAIN, Transport

DELETED = frozenset({"/users", "/users/{id}"})  # the other routes of Litestar are there to be read
FRAMEWORK_ERRORS = {404: "Not found"}


class Side(Protocol):
    """What a side brings to the application."""

    @property
    def route_handlers(self) -> Sequence[ControllerRouterHandler]:
        """The routes of Litestar."""
        ...

    @property
    def direct_routes(self) -> Mapping[str, App]:
        """Routes by path that pass by the router."""
        ...

    @property
    def raw_routes(self) -> Mapping[str, App]:
        """Hot routes by path, which may have parameters: `{name}`."""
        ...

    @property
    def fast_handlers(self) -> Mapping[bytes, FastHandler]:
        """By path, what may answer a POST without a task."""
        ...

    @property
    def policies(self) -> Sequence[RequestPolicy]:
        """What every request of the process passes, in this order; see `web/policies/`."""
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


def web_app(
    name: str,
    identity: RequestPolicy,
    *sides: Side,
    first: Sequence[RequestPolicy] = (),
    unparsed: Sequence[RequestPolicy] = (),
    transport: Transport = PLAIN,
    pages: RefusalPages | None = None,
) -> Middleware:
    """All routes and probes of `sides`, behind the policies of all of them.

    Args:
        name: Labels metrics and logs.
        identity: The first policy, which learns the `Principal` of every request. `web/access.py` says what it needs.
        sides: What answers.
        first: Policies before identity, which know nobody yet.
        unparsed: Those of `first` that what never becomes a request passes, too.
        transport: How the process is spoken to.
        pages: What a browser is shown for an envelope that refuses; None: the process has no pages.
    """
    documents = {path: document for side in sides for path, document in side.documents.items()}
    app: Any = Litestar(
        route_handlers=[route for side in sides for route in side.route_handlers],
        lifespan=[side.lifespan for side in sides],
        exception_handlers={HTTPException: framework_error, Exception: unforeseen_error},
        guards=[no_options],
        openapi_config=docs_config(documents),
        logging_config=None,
    )
    probes = {probe_name: probe for side in sides for probe_name, probe in side.probes.items()}
    probes = {**with_probes_of(identity, probes), **transport.probes()}
    direct = {path: route for side in sides for path, route in side.direct_routes.items()}
    fast_handlers = {path: handler for side in sides for path, handler in side.fast_handlers.items()}
    policies = [
        *transport.policies(),
        *first,
        identity,
        check_access,
        *(policy for side in sides for policy in side.policies),
    ]
    raw = {path: route for side in sides for path, route in side.raw_routes.items()}
    unparsed = [*transport.policies(), *unparsed]
    layer = Middleware(RawRoutes(raw, for_router(app)), name, probes, direct, fast_handlers, policies, unparsed)
    layer.pages = pages
    return layer


def for_router(app: App) -> App:
    """`app`, Litestar, behind what its router does not do by itself.

    HEAD is a GET to it; the server leaves out the body. The path is the canonical one already (`RequestHead.path`), and
    the routes decode their parameters: a router that sees a path decoded takes a `%2F` for the end of a segment.
    """

    async def routed(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "method": "GET" if scope["method"] == "HEAD" else scope["method"]}
        await app(scope, receive, send)

    return routed


async def no_options(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
    """A guard: Litestar adds OPTIONS to each route, which none of ours has. Raises MethodNotAllowedException."""
    if connection.scope.get("method") == "OPTIONS":
        raise MethodNotAllowedException(headers={"allow": "GET"})


def framework_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """The framework's own refusals, in the envelope."""
    if error.status_code == 405:
        method, allowed = (
            ("DELETE", "DELETE") if template_of(request.scope["path"]) in DELETED else ("GET", "GET, HEAD")
        )
        text = f"Method {request.method} is not allowed here; use {method}."
        return refusal(405, text, {"allow": allowed})
    internal = error.status_code >= 500
    text = envelope.INTERNAL_ERROR if internal else FRAMEWORK_ERRORS.get(error.status_code, error.detail)
    return refusal(error.status_code, text, error.headers)


def refusal(status: int, text: str, headers: dict[str, str] | None = None) -> Response[bytes]:
    """One sentence in the envelope."""
    return Response(envelope.failed(text), status_code=status, media_type="application/json", headers=headers)


def unforeseen_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """500, and nothing of the cause in the answer; the log has it."""
    get_logger("web").error("unforeseen_error", path=template_of(request.scope["path"]), exc_info=error)
    return refusal(500, envelope.INTERNAL_ERROR)
