"""Documents for programs, each rendered when it is first asked for."""

from collections.abc import Callable
from functools import cache

from litestar import get
from litestar.handlers import HTTPRouteHandler

JSON = "application/json"


def document_route(path: str, rendered: Callable[[], bytes], media_type: str = JSON) -> HTTPRouteHandler:
    """The route that serves one document."""
    cached = cache(rendered)

    @get(path, media_type=media_type, include_in_schema=False, sync_to_thread=True)  # to render takes a while
    def document() -> bytes:
        return cached()

    return document
