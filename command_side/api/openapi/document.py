"""The document, put together.

`python -m footfall.documents` compares it with its file, `docs/openapi/command-side.json`.
"""

from pathlib import Path

import msgspec

from command_side.api.openapi.paths import PATHS
from command_side.api.openapi.shapes import Json, components

FILE = Path(__file__).resolve().parents[3] / "docs" / "openapi" / "command-side.json"


def document() -> Json:
    """The OpenAPI 3.1 document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Footfall: commands",
            "version": "1",
            "summary": "Record what users do.",
            "description": (
                "Every answer has an `X-Request-ID`; every refusal is the envelope `Refusal`. The schemas of the event "
                "are under `/schema/events/`, the topic is described at `/asyncapi/user-activity-events.json`."
            ),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": PATHS,
        "components": {"schemas": components()},
    }


def rendered() -> bytes:
    """The document as its file has it, and as it is served."""
    return msgspec.json.format(msgspec.json.encode(document()), indent=2) + b"\n"
