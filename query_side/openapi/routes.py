"""`/openapi/query-side.json` and `/docs`, rendered once, when first asked for."""

from functools import cache

from litestar import asgi
from litestar.handlers import ASGIRouteHandler

from query_side.answers import JSON, guarded
from query_side.openapi.document import document, rendered
from query_side.openapi.page import CONTENT_SECURITY_POLICY, page
from telemetry.asgi import Receive, Scope, Send, respond

DOCUMENT = "/openapi/query-side.json"
DOCS = "/docs"
HTML = b"text/html; charset=utf-8"


def documentation_routes() -> list[ASGIRouteHandler]:
    """The routes for an application."""
    return [
        asgi(DOCUMENT, copy_scope=False)(guarded(_document)),
        asgi(DOCS, copy_scope=False)(guarded(_docs)),
    ]


async def _document(_scope: Scope, _receive: Receive, send: Send) -> None:
    await respond(send, 200, _bytes_of_document(), JSON)


async def _docs(_scope: Scope, _receive: Receive, send: Send) -> None:
    policy = (b"content-security-policy", CONTENT_SECURITY_POLICY)
    await respond(send, 200, _bytes_of_page(), HTML, policy)


@cache
def _bytes_of_document() -> bytes:
    return rendered()


@cache
def _bytes_of_page() -> bytes:
    return page(document())
