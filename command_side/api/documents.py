"""What programs read about the service: the OpenAPI and AsyncAPI documents, and the JSON Schemas of the event."""

from collections.abc import Callable
from functools import partial

from litestar.handlers import HTTPRouteHandler

from command_side.api.openapi.document import rendered as openapi
from contracts.asyncapi import rendered as asyncapi
from contracts.published import published_schemas
from contracts.published import rendered as schema_text
from contracts.types import Catalogue
from contracts.types import rendered as event_types
from web.documents import document_route

OPENAPI = "/openapi/command-side.json"
ASYNCAPI = "/asyncapi/user-activity-events.json"
SCHEMAS = "/schema/events"
EVENT_TYPES = f"{SCHEMAS}/event-types.json"

JSON_SCHEMA = "application/schema+json"


def document_routes(catalogue: Catalogue) -> list[HTTPRouteHandler]:
    """The routes for an application."""
    schemas: dict[str, Callable[[], bytes]] = {
        f"{SCHEMAS}/{name}": partial(schema_text, schema) for name, schema in published_schemas().items()
    }
    return [
        document_route(OPENAPI, partial(openapi, catalogue)),
        document_route(ASYNCAPI, partial(asyncapi, catalogue)),
        document_route(EVENT_TYPES, partial(event_types, catalogue)),
        *(document_route(path, rendered, JSON_SCHEMA) for path, rendered in schemas.items()),
    ]
