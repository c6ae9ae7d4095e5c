"""What every typed route of the query side has: strictness, a connection, JSON as clients take it, refusals."""

from collections.abc import Mapping, Sequence
from typing import Any

from litestar import Request, Response, Router
from litestar.di import Provide
from litestar.enums import ScopeType
from litestar.exceptions import ValidationException
from litestar.handlers import HTTPRouteHandler
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope

from query_side.api.asking import principal_of
from query_side.api.compression import ENCODED, LEAST_BYTES, VARY, Gzip, takes_gzip
from query_side.api.declared import OF_EVERY_ROUTE
from query_side.api.negotiation import JSON as JSON_TYPE
from query_side.api.negotiation import chosen
from query_side.api.pending_bytes import WaitingBytes
from query_side.api.responses import JSON, header, refusal_for
from query_side.api.strictness import strict
from read_model.connecting.unavailable import ANOTHER_SCHEMA, DATABASE_UNAVAILABLE
from web.asgi import respond
from web.policies.decisions import Refuse, RefusedError
from web.policies.passage import refusal_body

AnyRequest = Request[Any, Any, Any]
ALWAYS_JSON = "always_json"  # of a route's `opt`: it is small, and asks no client whether it takes JSON
OWN_HEADERS = (b"content-type", b"content-length")


def reading_router(
    handlers: Sequence[HTTPRouteHandler],
    dependencies: Mapping[str, Provide],
    waiting: WaitingBytes,
    event_types: tuple[str, ...],
) -> Router:
    """The typed routes, behind what all of them share."""
    return Router(
        "/",
        route_handlers=list(handlers),
        dependencies=dict(dependencies),
        parameters=OF_EVERY_ROUTE,
        guards=[strict(event_types)],
        middleware=[JsonAnswers(waiting)],
        exception_handlers={
            ValidationException: invalid,
            **dict.fromkeys((RefusedError, *DATABASE_UNAVAILABLE, *ANOTHER_SCHEMA), refused),
        },
    )


class JsonAnswers(ASGIMiddleware):
    """Answers 406 to a client that takes no JSON, compresses where it pays, and bounds what waits for readers."""

    exclude_opt_key: str | None = ALWAYS_JSON
    scopes: tuple[ScopeType, ...] = (ScopeType.HTTP,)

    def __init__(self, waiting: WaitingBytes) -> None:
        self._waiting = waiting

    async def handle(self, scope: Scope, receive: Receive, send: Any, next_app: ASGIApp) -> None:
        """ASGI. Litestar sends what a handler returned in two messages: the start, and the whole body."""
        held: list[Any] = []

        async def hold(message: Any) -> None:
            held.append(message)

        await next_app(scope, receive, hold)
        start, content = held
        if start["status"] != 200:
            await send(start)
            await send(content)
            return
        headers = [each for each in start["headers"] if each[0] not in OWN_HEADERS]
        try:
            await self._answer(scope, send, content["body"], headers)
        except RefusedError as error:  # Litestar takes its answer for begun
            answer = error.answer
            await respond(send, answer.status, refusal_body(answer), JSON, *answer.headers)

    async def _answer(self, scope: Any, send: Any, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        chosen(header(scope, b"accept"), (JSON_TYPE,))
        if len(body) >= LEAST_BYTES and takes_gzip(header(scope, b"accept-encoding")):
            body = Gzip().end(body)
            headers = [*headers, ENCODED]
        await self._waiting.respond(send, principal_of(scope), 200, body, JSON, VARY, *headers)


def refused(request: AnyRequest, error: Exception) -> Response[bytes]:
    """The answer of `refusal_for`, as Litestar sends it."""
    return in_envelope(refusal_for(error, request.scope["path"]))


def invalid(_request: AnyRequest, error: ValidationException) -> Response[bytes]:
    """What the guard has let through and Litestar has not: as strict, in Litestar's words."""
    told = [each for each in error.extra or [] if isinstance(each, dict)]
    problems = [f"Parameter `{each.get('key')}`: {each.get('message')}." for each in told]
    return in_envelope(Refuse(400, "", problems=tuple(problems or [error.detail])))


def in_envelope(answer: Refuse) -> Response[bytes]:
    """A refusal as Litestar answers it."""
    headers = {key.decode(): value.decode() for key, value in answer.headers}
    return Response(refusal_body(answer), status_code=answer.status, media_type=JSON_TYPE, headers=headers)
