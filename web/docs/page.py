"""Litestar's OpenAPI plugin for `/docs`: Swagger UI over the documents of the sides that a process serves.

Everything comes from this process: script and style sheet lie in `assets/`, packed with gzip as npm's `swagger-ui-dist`
5.35.0 has them (Apache 2.0; the licences lie beside them). The page has no script and no style of its own, so that its
content security policy allows none but these files, and requests to this origin only. Without scripts it lists what
there is.
"""

import asyncio
from collections.abc import Callable, Mapping
from functools import cache
from html import escape
from typing import Any

import msgspec
from litestar import Litestar, Request, Response, Router
from litestar.datastructures import ResponseHeader
from litestar.exceptions import NotFoundException
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import OpenAPIRenderPlugin

from web.docs.assets import ASSETS, asset

Json = dict[str, Any]

DOCS = "/docs"
NDJSON = "application/x-ndjson"
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class LocalSwaggerUI(OpenAPIRenderPlugin):
    """The page of several documents, each of which has a path of its own."""

    def __init__(self, documents: Mapping[str, Callable[[], Json]]) -> None:
        """`documents`: by the path that serves them."""
        super().__init__(path="/")
        self._page = cache(lambda: page({path: document() for path, document in documents.items()}))

    async def prepare(self, request: Request[Any, Any, Any]) -> None:
        """Before a request: documents are generated beside the event loop, which they would hold for a while."""
        await asyncio.to_thread(self._prepare, request.app)

    def _prepare(self, app: Litestar) -> None:
        assert app.openapi_schema  # Litestar generates one of its own before it asks for a page
        self._page()

    def render(self, request: Request[Any, Any, Any], openapi_schema: Json) -> bytes:
        """The page."""
        return self._page()

    def has_path(self, path: str) -> bool:
        """Litestar need not add a path for the document: each has its own."""
        return path == "/openapi.json" or super().has_path(path)

    def receive_router(self, router: Router) -> None:
        """Adds the files that the page loads."""
        router.register(asset)


def docs_config(documents: Mapping[str, Callable[[], Json]]) -> OpenAPIConfig:
    """What Litestar has to know to serve `/docs`."""
    policy = ResponseHeader(name="content-security-policy", value=CONTENT_SECURITY_POLICY)
    plugin = LocalSwaggerUI(documents)
    router = Router(
        DOCS,
        route_handlers=[],
        include_in_schema=False,
        response_headers=[policy],
        before_request=plugin.prepare,
        after_request=found,
    )
    return OpenAPIConfig(title="Footfall", version="1", openapi_router=router, render_plugins=[plugin])


async def found(response: Response[Any]) -> Response[Any]:
    """A path that is not there is not there, below `/docs` too: Litestar would answer a page of its own."""
    if response.status_code == 404:
        raise NotFoundException
    return response


def page(documents: Mapping[str, Json]) -> bytes:
    """The page of all documents, one after the other."""
    title = escape(", ".join(document["info"]["title"] for document in documents.values()))
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        f'<meta name="viewport" content="width=device-width"><title>{title}</title>',
        f'<link rel="icon" href="data:,"><link rel="stylesheet" href="{ASSETS}/swagger-ui.css">',
        f'<script defer src="{ASSETS}/swagger-ui-bundle.js"></script><script defer src="{ASSETS}/start.js"></script>',
        *(f'<div class="document" data-url="{escape(path)}"></div>' for path in documents),
        "<noscript>",
        *(contents(path, document) for path, document in documents.items()),
        "</noscript></html>",
    ]
    return "\n".join(parts).encode()


def contents(path: str, document: Json) -> str:
    """What there is, for readers without scripts."""
    info = document["info"]
    operations = [
        f"<h2><code>{method.upper()}</code> <code>{escape(name)}</code></h2><p>{escape(operation['summary'])}</p>"
        + json_lines_example(operation.get("requestBody", {}))
        for name, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    head = f"<h1>{escape(info['title'])}</h1><p>{escape(info['summary'])}</p>"
    return f'{head}<p>For machines: <a href="{escape(path)}">OpenAPI 3.1</a>.</p>{"".join(operations)}'


def json_lines_example(body: Json) -> str:
    """The example of a body that is lines of JSON, one line each, as they are sent."""
    items = body.get("content", {}).get(NDJSON, {}).get("example", [])
    lines = escape("\n".join(msgspec.json.encode(item).decode() for item in items))
    return f"<p><code>{NDJSON}</code></p><pre>{lines}</pre>" if items else ""
