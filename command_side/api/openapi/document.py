"""The document of the command side, generated from the signatures of its routes.

`python -m footfall.documents` compares it with its file, `docs/openapi/command-side.json`.
"""

from pathlib import Path

import msgspec
from litestar import Router
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import License

from command_side.api.openapi.declared_routes import DECLARED, HEADERS
from command_side.api.openapi.shapes import Json, components
from contracts.documented_types import with_types_of
from contracts.types import Catalogue
from web.openapi import generated

FILE = Path(__file__).resolve().parents[3] / "docs" / "openapi" / "command-side.json"


INFO = OpenAPIConfig(
    title="Footfall: commands",
    version="1",
    summary="Record what users do.",
    description="Every answer has an `X-Request-ID`; every refusal is the envelope `Refusal`. The schemas of the event "
    "are under `/schema/events/`, the topic is described at `/asyncapi/user-activity-events.json`.",
    license=License(name="MIT", identifier="MIT"),
)


def document(catalogue: Catalogue) -> Json:
    """The OpenAPI 3.1 document, with the event types of the catalogue."""
    found = generated(INFO, [Router("/", route_handlers=DECLARED)], components(), HEADERS)
    return with_types_of(catalogue, found)


def rendered(catalogue: Catalogue) -> bytes:
    """The document as it is served, and as its file has it for the shipped catalogue."""
    return msgspec.json.format(msgspec.json.encode(document(catalogue)), indent=2) + b"\n"
