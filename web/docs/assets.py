"""The files that `/docs` loads."""

import gzip
from collections.abc import Mapping
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
    return file_answer(FILES, MEDIA_TYPES, name, accepted)


def file_answer(folder: Path, media_types: Mapping[str, str], name: str, accepted: str | None) -> Response[bytes]:
    """One of the files that `media_types` names, gzipped where `accepted` allows it. Raises NotFoundException."""
    if name not in media_types:
        raise NotFoundException
    packed = takes_gzip(accepted or "")
    headers = {"vary": "accept-encoding"} | ({"content-encoding": "gzip"} if packed else {})
    return Response(contents(folder / name, packed=packed), media_type=media_types[name], headers=headers)


@cache
def contents(plain: Path, *, packed: bool) -> bytes:
    """The bytes of a file, which lies there plain or with the ending `.gz`."""
    if plain.exists():
        return gzip.compress(plain.read_bytes(), mtime=0) if packed else plain.read_bytes()
    stored = plain.with_name(f"{plain.name}.gz").read_bytes()
    return stored if packed else gzip.decompress(stored)


def takes_gzip(accept_encoding: str) -> bool:
    """Whether a client names gzip and does not rule it out."""
    elements = [element.replace(" ", "").lower() for element in accept_encoding.split(",")]
    return any(one == "gzip" or (one.startswith("gzip;q=") and one.strip("0.") != "gzip;q=") for one in elements)
