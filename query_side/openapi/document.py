"""The document of the query side, generated from the signatures of its routes.

`python -m footfall.documents` compares it with its file, `docs/openapi/query-side.json`.
"""

from pathlib import Path
from typing import NoReturn

import msgspec
from litestar import Router
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import License

from contracts.documented_types import with_types_of
from contracts.types import Catalogue
from query_side.activity.kept_answers import KeptAnswers
from query_side.activity.routes import ACTIVITY_ROUTES
from query_side.api.declared import OF_EVERY_ROUTE
from query_side.api.dependencies import dependencies_of
from query_side.api.described import HEADERS
from query_side.feed.status_route import event_status
from query_side.openapi.declared_routes import DECLARED
from query_side.openapi.shapes import Json, components
from web.openapi import generated
from web.tenants.position_tokens import PositionTokens

DOCUMENT = "/openapi/query-side.json"
FILE = Path(__file__).resolve().parents[2] / "docs" / "openapi" / "query-side.json"

INFO = OpenAPIConfig(
    title="Footfall: queries",
    version="1",
    summary="What users did: events, sessions, products and activity.",
    description="Reads only. Every answer has an `X-Request-ID`; every refusal is the envelope `Refusal`. Times are "
    "ISO-8601 in UTC.",
    license=License(name="MIT", identifier="MIT"),
)


def document(catalogue: Catalogue) -> Json:
    """The OpenAPI 3.1 document, with the event types of the catalogue."""
    nothing_kept = KeptAnswers(None, "")
    routes = Router(
        "/",
        route_handlers=[*DECLARED, *ACTIVITY_ROUTES, event_status],
        dependencies=dependencies_of(
            nothing_is_open, nothing_is_open, nothing_is_open, PositionTokens(""), nothing_kept, 0.0
        ),
        parameters=OF_EVERY_ROUTE,
    )
    return with_types_of(catalogue, generated(INFO, [routes], components(), HEADERS))


def nothing_is_open() -> NoReturn:
    raise NotImplementedError("the routes are described here, not served")


def rendered(catalogue: Catalogue) -> bytes:
    """The document as it is served, and as its file has it for the shipped catalogue."""
    return msgspec.json.format(msgspec.json.encode(document(catalogue)), indent=2) + b"\n"
