"""Documents for programs list the event types of the catalogue that a deployment has.

The documents are written with the shipped types. A catalogue of one's own replaces them in the document that is served:
in every enumeration, sentence and example. JSON Schemas of published versions are no such documents: they never change.
"""

from collections.abc import Sequence
from typing import Any

from contracts.types import FIRST_TYPES, Catalogue

SENTENCE = ", ".join(FIRST_TYPES)
EXAMPLE_KEYS = ("eventType", "event-type")


def with_types_of(catalogue: Catalogue, document: dict[str, Any]) -> dict[str, Any]:
    """The document with the catalogue's types; the same document for the shipped catalogue."""
    if catalogue.is_shipped:
        return document
    replaced: dict[str, Any] = _replaced(document, catalogue.names)
    return replaced


def _replaced(node: Any, names: Sequence[str]) -> Any:
    if isinstance(node, str):
        return node.replace(SENTENCE, ", ".join(names))
    if isinstance(node, list):
        return [_replaced(each, names) for each in node]
    if not isinstance(node, dict):
        return node
    found = {key: _replaced_value(key, value, names) for key, value in node.items()}
    if node.get("name") == "eventType" and isinstance(node.get("example"), list):
        found["example"] = list(names[:2])
    return found


def _replaced_value(key: str, value: Any, names: Sequence[str]) -> Any:
    if key == "enum" and isinstance(value, list) and set(value) == set(FIRST_TYPES):
        return list(names)
    if key in EXAMPLE_KEYS and isinstance(value, str):
        return value if value in names else names[0]
    return _replaced(value, names)
