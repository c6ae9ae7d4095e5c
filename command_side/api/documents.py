"""What programs read about the service: the OpenAPI and AsyncAPI documents, and the JSON Schemas of the event."""

from functools import cache

from litestar import asgi
from litestar.handlers import ASGIRouteHandler

from command_side.api.openapi.document import rendered as openapi
from command_side.api.responses import refuse
from contracts.asyncapi import rendered as asyncapi
from contracts.published import published_schemas
from contracts.published import rendered as schema_text
from web.asgi import Receive, Scope, Send, respond

OPENAPI = "/openapi/command-side.json"
ASYNCAPI = "/asyncapi/user-activity-events.json"
SCHEMAS = "/schema/events"

JSON = b"application/json"
JSON_SCHEMA = b"application/schema+json"


def document_routes() -> list[ASGIRouteHandler]:
    """The routes for an application. Each document is rendered when the first is asked for."""
    kinds = {OPENAPI: JSON, ASYNCAPI: JSON} | {f"{SCHEMAS}/{name}": JSON_SCHEMA for name in published_schemas()}
    return [_route(path, media_type) for path, media_type in kinds.items()]


def _route(path: str, media_type: bytes) -> ASGIRouteHandler:
    @asgi(path, copy_scope=False)
    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] in ("GET", "HEAD"):
            await respond(send, 200, _documents()[path], media_type)
        else:
            method = scope["method"]
            await refuse(send, 405, f"Method {method} is not allowed here; use GET.", (b"allow", b"GET, HEAD"))

    return serve


@cache
def _documents() -> dict[str, bytes]:
    schemas = {f"{SCHEMAS}/{name}": schema_text(schema) for name, schema in published_schemas().items()}
    return {OPENAPI: openapi(), ASYNCAPI: asyncapi(), **schemas}
