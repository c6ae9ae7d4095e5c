"""The index template of the events' data streams, and their names."""

import re
from typing import Any

from contracts.event import DEFAULT_TENANT

STREAM = "footfall-events"
KEYWORD = {"type": "keyword", "ignore_above": 1_024}
DEPTH = 256  # of payloads, at most; no event has a deeper one, nor one of more than 16 KiB


def stream_of(tenant_id: str) -> str:
    """Returns the data stream of a tenant. Names have no capitals, and ids of tenants have: `+a` is A."""
    if tenant_id == DEFAULT_TENANT:
        return STREAM
    return f"{STREAM}.{re.sub('[A-Z]', lambda found: '+' + found[0].lower(), tenant_id)}"


def template(payload_type: str, target: str) -> dict[str, Any]:
    """Returns the template of every stream.

    A payload may have any field of any type, so it is one field of its own kind, which no document can make grow or
    contradict: nothing is learned from documents.

    Args:
        payload_type: `flattened` of Elasticsearch, or `flat_object` of OpenSearch.
        target: What names the target: a stream that is made anew has another.
    """
    payload: dict[str, Any] = {"type": payload_type}
    if payload_type == "flattened":
        payload |= {"depth_limit": DEPTH, "ignore_above": 1_024}
    properties = {
        "@timestamp": {"type": "date"},
        "recorded_at": {"type": "date"},
        "tenant_id": KEYWORD,
        "event_id": KEYWORD,
        "user_id": KEYWORD,
        "event_type": KEYWORD,
        "payload": payload,
        "kafka_partition": {"type": "integer"},
        "kafka_offset": {"type": "long"},
    }
    return {
        "index_patterns": [STREAM, f"{STREAM}.*"],
        "data_stream": {},
        "priority": 500,
        "template": {
            "mappings": {"dynamic": False, "_meta": {"footfall_sink": target}, "properties": properties},
        },
    }
