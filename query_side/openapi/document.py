"""The document, put together from the modules of paths.

`python -m footfall.documents` compares it with its file, `docs/openapi/query-side.json`.
"""

from pathlib import Path

import msgspec

from query_side.openapi.event_paths import EVENT_PATHS
from query_side.openapi.feed_paths import FEED_PATHS, waiting
from query_side.openapi.shapes import Json, components
from query_side.openapi.user_paths import USER_PATHS

FILE = Path(__file__).resolve().parents[2] / "docs" / "openapi" / "query-side.json"

PATHS: Json = waiting({**EVENT_PATHS, **USER_PATHS, **FEED_PATHS})


def document() -> Json:
    """The OpenAPI 3.1 document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Footfall: queries",
            "version": "1",
            "summary": "What users did: events, sessions, products and activity.",
            "description": (
                "Reads only. Every answer has an `X-Request-ID`; every refusal is the envelope `Refusal`. Times are "
                "ISO-8601 in UTC."
            ),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": PATHS,
        "components": {"schemas": components()},
    }


def rendered() -> bytes:
    """The document as its file has it, and as it is served."""
    return msgspec.json.format(msgspec.json.encode(document()), indent=2) + b"\n"
