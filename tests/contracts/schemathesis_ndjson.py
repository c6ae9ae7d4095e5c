"""How Schemathesis writes a batch as lines of JSON, which it does not know by itself."""

import json
from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(_context: schemathesis.SerializationContext, value: Any) -> bytes:
    """A line for each item; what is no batch becomes one item of the wrong type, for a batch of one is a batch."""
    items = value if isinstance(value, list) else [[value]]
    return "".join(f"{json.dumps(item)}\n" for item in items).encode()
