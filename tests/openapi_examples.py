"""The examples of an OpenAPI document, each with the schema that it must fit."""

from collections.abc import Iterator
from typing import Any


def schemas_with_examples(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every schema that has an example beside it or in it, with the example."""
    if isinstance(node, dict):
        if "schema" in node and "example" in node:
            yield node["schema"], node["example"]
        for example in node.get("examples", ()):
            yield node, example
        for child in node.values():
            yield from schemas_with_examples(child)
    elif isinstance(node, list):
        for child in node:
            yield from schemas_with_examples(child)
