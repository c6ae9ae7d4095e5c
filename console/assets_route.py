"""The files that the pages load: our own, and two libraries as npm has them (console/assets/*.LICENSE)."""

from pathlib import Path
from typing import Annotated

from litestar import Response, get
from litestar.params import FromPath, HeaderParameter

from web.docs.assets import file_answer

FILES = Path(__file__).parent / "assets"
MEDIA_TYPES = {  # Litestar adds the charset
    "console.css": "text/css",
    "uplot.min.css": "text/css",
    "console.js": "text/javascript",
    "htmx.min.js": "text/javascript",
    "uplot.min.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


@get("/console/assets/{name:str}", include_in_schema=False, sync_to_thread=False)
def asset(
    name: FromPath[str], accepted: Annotated[str | None, HeaderParameter(name="Accept-Encoding")] = None
) -> Response[bytes]:
    """One file, packed where the client takes gzip. Raises NotFoundException."""
    return file_answer(FILES, MEDIA_TYPES, name, accepted)
