"""`/docs`: what a process serves, as one HTML page: no script, no font, no style sheet, nothing from anywhere else."""

from collections.abc import Callable, Mapping
from functools import cache
from html import escape
from typing import Any

import msgspec

from web import envelope
from web.asgi import App, Receive, Scope, Send, respond

Json = dict[str, Any]

DOCS = "/docs"
NDJSON = "application/x-ndjson"
HTML = b"text/html; charset=utf-8"

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24; }
code, pre { font: 14px/1.4 ui-monospace, monospace; }
pre { background: #f4f6f8; padding: .7rem; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
td, th { border-bottom: 1px solid #d8dee4; padding: .3rem .5rem; text-align: left; vertical-align: top; }
h2 { margin-top: 2.5rem; border-top: 2px solid #d8dee4; padding-top: 1rem; }
.get { color: #0a6; } .post { color: #c50; }
@media (prefers-color-scheme: dark) {
  body { background: #14171a; color: #e6e8ea; } pre { background: #1f2428; } td, th, h2 { border-color: #3a4046; }
}
"""
CONTENT_SECURITY_POLICY = b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"


def docs_route(documents: Mapping[str, Callable[[], Json]]) -> App:
    """The application of `/docs`. `documents`: OpenAPI documents by the path that serves them."""
    rendered = cache(lambda: page({path: document() for path, document in documents.items()}))
    policy = (b"content-security-policy", CONTENT_SECURITY_POLICY)

    async def docs(scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["method"] in ("GET", "HEAD"):
            await respond(send, 200, rendered(), HTML, policy)
        else:
            refusal = envelope.failed(f"Method {scope['method']} is not allowed here; use GET.")
            await respond(send, 405, refusal, b"application/json", (b"allow", b"GET, HEAD"))

    return docs


def page(documents: Mapping[str, Json]) -> bytes:
    """One page of all documents, one after the other."""
    title = escape(", ".join(document["info"]["title"] for document in documents.values()))
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        f'<meta name="viewport" content="width=device-width"><title>{title}</title><style>{STYLE}</style>',
        *(_contents(document) for document in documents.values()),
        *(_document(path, document) for path, document in documents.items()),
        "</html>",
    ]
    return "\n".join(parts).encode()


def _contents(document: Json) -> str:
    links = [f'<li><a href="#{escape(_id(path))}"><code>{escape(path)}</code></a>' for path in document["paths"]]
    return f"<p><strong>{escape(document['info']['title'])}</strong></p><ul>{''.join(links)}</ul>"


def _document(path: str, document: Json) -> str:
    info = document["info"]
    return "\n".join(
        [
            f"<h1>{escape(info['title'])}</h1><p>{_text(info['summary'])}</p><p>{_text(info['description'])}</p>",
            f'<p>For machines: <a href="{escape(path)}">OpenAPI 3.1</a>.</p>',
            *(_path(path, operations) for path, operations in document["paths"].items()),
            "<h2>Schemas</h2>",
            *(
                f"<h3>{escape(name)}</h3><pre>{_json(schema)}</pre>"
                for name, schema in document["components"]["schemas"].items()
            ),
        ]
    )


def _path(path: str, operations: Json) -> str:
    return "\n".join(
        [
            f'<h2 id="{escape(_id(path))}"><span class="{escape(method)}">{escape(method.upper())}</span> '
            f"<code>{escape(path)}</code></h2><p><strong>{_text(operation['summary'])}</strong></p>"
            f"<p>{_text(operation.get('description', ''))}</p>"
            + _parameters(operation.get("parameters", []))
            + _body(operation.get("requestBody"))
            + "".join(_response(status, found) for status, found in operation["responses"].items())
            for method, operation in operations.items()
        ]
    )


def _parameters(parameters: list[Json]) -> str:
    rows = [
        f"<tr><td><code>{escape(one['name'])}</code><td>{escape(one['in'])}<td>{_text(one['description'])}"
        f"<td><code>{escape(_shown(one.get('example')))}</code>"
        for one in parameters
    ]
    head = "<tr><th>Parameter<th>In<th>Meaning<th>Example"
    return f"<table>{head}{''.join(rows)}</table>" if rows else ""


def _body(body: Json | None) -> str:
    return "" if body is None else f"<p><strong>Body</strong> {_text(body['description'])}</p>{_examples(body)}"


def _response(status: str, response: Json) -> str:
    opened = " open" if status in ("200", "201") else ""
    summary = f"<summary><strong>{escape(status)}</strong> {_text(response['description'])}</summary>"
    return f"<details{opened}>{summary}{_examples(response)}</details>"


def _examples(described: Json) -> str:
    return "".join(
        f"<p><code>{escape(media_type)}</code></p>"
        + (f"<pre>{_example(media_type, found['example'])}</pre>" if "example" in found else "")
        for media_type, found in described.get("content", {}).items()
    )


def _example(media_type: str, example: Any) -> str:
    if media_type == NDJSON and isinstance(example, list):  # one line each, as they are sent
        return escape("\n".join(msgspec.json.encode(item).decode() for item in example))
    return _json(example)


def _id(path: str) -> str:
    return path.strip("/").replace("/", "-").translate({ord("{"): None, ord("}"): None})


def _text(text: str) -> str:
    """Prose in which backticks mark code."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if at % 2 else piece for at, piece in enumerate(pieces)).replace(
        "\n\n", "</p><p>"
    )


def _json(value: Any) -> str:
    if isinstance(value, str):
        return escape(value)
    return escape(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def _shown(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return msgspec.json.encode(value).decode()
