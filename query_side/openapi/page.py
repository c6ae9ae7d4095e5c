"""The documentation as one HTML page: no script, no font, no style sheet, nothing from anywhere else."""

from html import escape
from typing import Any

import msgspec

from query_side.openapi.shapes import Json

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24; }
code, pre { font: 14px/1.4 ui-monospace, monospace; }
pre { background: #f4f6f8; padding: .7rem; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
td, th { border-bottom: 1px solid #d8dee4; padding: .3rem .5rem; text-align: left; vertical-align: top; }
h2 { margin-top: 2.5rem; border-top: 2px solid #d8dee4; padding-top: 1rem; }
.get { color: #0a6; }
@media (prefers-color-scheme: dark) {
  body { background: #14171a; color: #e6e8ea; } pre { background: #1f2428; } td, th, h2 { border-color: #3a4046; }
}
"""
CONTENT_SECURITY_POLICY = b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"


def page(document: Json) -> bytes:
    """The page of an OpenAPI document."""
    info, paths = document["info"], document["paths"]
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{escape(info['title'])}</title><style>{STYLE}</style>",
        f"<h1>{escape(info['title'])}</h1><p>{_text(info['summary'])}</p><p>{_text(info['description'])}</p>",
        '<p>For machines: <a href="/openapi/query-side.json">OpenAPI 3.1</a>.</p><ul>',
        *(f'<li><a href="#{escape(_id(path))}"><code>{escape(path)}</code></a>' for path in paths),
        "</ul>",
        *(_path(path, operations) for path, operations in paths.items()),
        "<h2>Schemas</h2>",
        *(
            f'<h3 id="{escape(name)}">{escape(name)}</h3><pre>{_json(schema)}</pre>'
            for name, schema in document["components"]["schemas"].items()
        ),
        "</html>",
    ]
    return "\n".join(parts).encode()


def _path(path: str, operations: Json) -> str:
    return "\n".join(
        [
            f'<h2 id="{escape(_id(path))}"><span class="get">{escape(method.upper())}</span> '
            f"<code>{escape(path)}</code></h2><p><strong>{_text(operation['summary'])}</strong></p>"
            f"<p>{_text(operation.get('description', ''))}</p>"
            + _parameters(operation.get("parameters", []))
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


def _response(status: str, response: Json) -> str:
    examples = [
        f"<p><code>{escape(media_type)}</code></p>"
        + (f"<pre>{_json(found['example'])}</pre>" if "example" in found else "")
        for media_type, found in response.get("content", {}).items()
    ]
    opened = " open" if status == "200" else ""
    summary = f"<summary><strong>{escape(status)}</strong> {_text(response['description'])}</summary>"
    return f"<details{opened}>{summary}{''.join(examples)}</details>"


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
