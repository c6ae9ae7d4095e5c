"""The files that the pages load: our own, and two libraries as npm has them (console/assets/*.LICENSE)."""

import gzip
from functools import cache
from pathlib import Path
from typing import Annotated

from litestar import Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, HeaderParameter

from web.docs.assets import takes_gzip

FILES = Path(__file__).parent / "assets"
MEDIA_TYPES = {
    "console.css": "text/css; charset=utf-8",
    "uplot.min.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
    "htmx.min.js": "text/javascript; charset=utf-8",
    "uplot.min.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


@get("/console/assets/{name:str}", include_in_schema=False, sync_to_thread=False)
def asset(
    name: FromPath[str], accepted: Annotated[str | None, HeaderParameter(name="Accept-Encoding")] = None
) -> Response[bytes]:
    """One file, packed where the client takes gzip. Raises NotFoundException."""
    if name not in MEDIA_TYPES:
        raise NotFoundException
    packed = takes_gzip(accepted or "")
    headers = {"vary": "accept-encoding"} | ({"content-encoding": "gzip"} if packed else {})
    return Response(contents(name, packed=packed), media_type=MEDIA_TYPES[name], headers=headers)


@cache
def contents(name: str, *, packed: bool) -> bytes:
    """The bytes of a file."""
    plain = (FILES / name).read_bytes()
    return gzip.compress(plain, mtime=0) if packed else plain
