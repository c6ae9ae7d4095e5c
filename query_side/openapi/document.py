"""The document, put together from the modules of paths, and the check that its file says the same.

`python -m query_side.openapi.document` exits 1 when `docs/openapi/query-side.json` differs; `--write` writes it.
"""

import sys
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


def main() -> None:
    """The command; see the module's docstring."""
    if "--write" in sys.argv[1:]:
        FILE.parent.mkdir(exist_ok=True)
        FILE.write_bytes(rendered())
    if not FILE.exists() or FILE.read_bytes() != rendered():
        sys.stderr.write(
            f"{FILE.name} is not what the code says: run `python -m query_side.openapi.document --write`.\n"
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
