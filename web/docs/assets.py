"""The files that `/docs` loads."""

import gzip
from functools import cache
from pathlib import Path
from typing import Annotated

from litestar import Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, HeaderParameter

ASSETS = "/docs/assets"
FILES = Path(__file__).parent / "assets"
MEDIA_TYPES = {
    "swagger-ui-bundle.js": "text/javascript",
    "start.js": "text/javascript",
    "swagger-ui.css": "text/css",
}


@get("/assets/{name:str}", include_in_schema=False, sync_to_thread=True)  # to unpack takes a while
def asset(
    name: FromPath[str], accepted: Annotated[str | None, HeaderParameter(name="Accept-Encoding")] = None
) -> Response[bytes]:
    """One file, as it lies there where the client takes gzip. Raises NotFoundException."""
    if name not in MEDIA_TYPES:
        raise NotFoundException
    packed = takes_gzip(accepted or "")
    headers = {"vary": "accept-encoding"} | ({"content-encoding": "gzip"} if packed else {})
    return Response(contents(name, packed=packed), media_type=MEDIA_TYPES[name], headers=headers)


@cache
def contents(name: str, *, packed: bool) -> bytes:
    """The bytes of a file."""
    plain = FILES / name
    if plain.exists():
        return gzip.compress(plain.read_bytes(), mtime=0) if packed else plain.read_bytes()
    stored = (FILES / f"{name}.gz").read_bytes()
    return stored if packed else gzip.decompress(stored)


def takes_gzip(accept_encoding: str) -> bool:
    """Whether a client names gzip and does not rule it out."""
    elements = [element.replace(" ", "").lower() for element in accept_encoding.split(",")]
    return any(one == "gzip" or (one.startswith("gzip;q=") and one.strip("0.") != "gzip;q=") for one in elements)
