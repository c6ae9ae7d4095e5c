"""`/openapi/query-side.json`, rendered once, when first asked for."""

from functools import cache

from litestar import asgi
from litestar.handlers import ASGIRouteHandler

from query_side.api.responses import JSON, guarded
from query_side.openapi.document import rendered
from web.asgi import Receive, Scope, Send, respond

DOCUMENT = "/openapi/query-side.json"


def document_route() -> ASGIRouteHandler:
    """The route for an application."""
    return asgi(DOCUMENT, copy_scope=False)(guarded(_document))


async def _document(_scope: Scope, _receive: Receive, send: Send) -> None:
    await respond(send, 200, _bytes_of_document(), JSON)


@cache
def _bytes_of_document() -> bytes:
    return rendered()
