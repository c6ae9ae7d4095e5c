"""What Schemathesis does not know by itself: a batch as lines of JSON, and rules outside the documents' schemas."""

import json
from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(_context: schemathesis.SerializationContext, value: Any) -> bytes:
    """A line for each item; what is no batch becomes one item of the wrong type, for a batch of one is a batch."""
    items = value if isinstance(value, list) else [[value]]
    return "".join(f"{json.dumps(item)}\n" for item in items).encode()


@schemathesis.hook
def before_load_schema(_context: schemathesis.HookContext, raw: dict[str, Any]) -> None:
    """Puts each rule in its place that generators of clients cannot have there, and reads `$` as JSON Schema does.

    In a pattern of Python, `$` also matches before a line feed at the end.
    """
    _strict(raw)


def _strict(node: Any) -> None:
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _strict(child)
    if isinstance(node, dict):
        node |= node.pop("x-json-schema", {})
        if isinstance(node.get("pattern"), str) and node["pattern"].endswith("$"):
            node["pattern"] += r"(?![\s\S])"
