"""Writes the documents that are generated from the code, or checks that their files in `docs/` are up to date.

`python -m footfall.documents` exits 1 when a file differs; `--write` writes them.
"""

import sys

from command_side.api.openapi import document as commands
from contracts import asyncapi
from footfall import settings_page
from query_side.openapi import document as queries

DOCUMENTS = {module.FILE: module.rendered for module in (asyncapi, commands, queries, settings_page)}


def main() -> None:
    """Runs the command; see the module's docstring."""
    differing = []
    for file, rendered in DOCUMENTS.items():
        if "--write" in sys.argv[1:]:
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(rendered())
        if not file.exists() or file.read_bytes() != rendered():
            differing.append(file.name)
    for name in differing:
        sys.stderr.write(f"{name} differs from what the code generates: run `python -m footfall.documents --write`.\n")
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
