"""Writes the documents that are generated from the code, or checks that their files in `docs/` are up to date.

`python -m footfall.documents` exits 1 when a file differs; `--write` writes them.
"""

import sys
from pathlib import Path

from command_side.api.openapi import document as commands
from contracts import asyncapi
from contracts.types import read_catalogue
from footfall import log_events_page, settings_page
from query_side.openapi import document as queries


def documents() -> dict[Path, bytes]:
    """Returns each file and the content that it must have, with the shipped catalogue of event types."""
    shipped = read_catalogue()
    found = {module.FILE: module.rendered(shipped) for module in (asyncapi, commands, queries)}
    return found | {page.FILE: page.rendered() for page in (settings_page, log_events_page)}


def main() -> None:
    """Runs the command; see the module's docstring."""
    differing = []
    for file, text in documents().items():
        if "--write" in sys.argv[1:]:
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(text)
        if not file.exists() or file.read_bytes() != text:
            differing.append(file.name)
    for name in differing:
        sys.stderr.write(f"{name} differs from what the code generates: run `python -m footfall.documents --write`.\n")
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
