"""The AsyncAPI 3.0 document of the topics, from the definitions that both ends of them use.

`python -m footfall.documents` compares it with its file, `docs/asyncapi/user-activity-events.json`.
"""

from pathlib import Path
from typing import Any

import msgspec

from contracts.documented_types import with_types_of
from contracts.erasure import ERASURE, HEADER_ACTOR, HEADER_RECORD_KIND, SealedErasure, UserErasure
from contracts.event import DEFAULT_TENANT
from contracts.record import (
    CONSUMER_GROUP,
    DEAD_LETTER_TOPIC,
    HEADER_EVENT_ID,
    HEADER_EVENT_TYPE,
    HEADER_FINGERPRINT,
    HEADER_REQUEST_ID,
    HEADER_TRACEPARENT,
    MAX_REQUEST_ID_LENGTH,
    PARTITIONS,
    TOPIC,
)
from contracts.sealed.events import UserEventV3
from contracts.types import FIRST_TYPES, Catalogue
from contracts.versions import PUBLISHED

Json = dict[str, Any]

FILE = Path(__file__).resolve().parents[1] / "docs" / "asyncapi" / "user-activity-events.json"
BINDING_VERSION = "0.5.0"  # of AsyncAPI's Kafka bindings

EXAMPLE_ID = "0197d0c1-7b8a-7cc3-98c4-dc0c0c07398f"
EXAMPLE_FIELDS: Json = {
    "userId": "user-123",
    "eventType": "PRODUCT_VIEW",
    "timestamp": "2026-01-31T12:00:00.123456Z",
    "payload": {"productId": "p-42"},
}
EXAMPLE_V1: Json = {"eventId": EXAMPLE_ID, **EXAMPLE_FIELDS}
EXAMPLE_V2: Json = {
    "version": "2.0",
    "eventId": EXAMPLE_ID,
    "tenantId": "acme",
    **EXAMPLE_FIELDS,
    "_metadata": {"schema_version": "2.0", "migrated_at": None},
}
EXAMPLE_HEADERS: Json = {
    HEADER_EVENT_TYPE: "PRODUCT_VIEW",
    HEADER_EVENT_ID: EXAMPLE_ID,
    HEADER_REQUEST_ID: "trace-42",
}

MOMENT: Json = {"type": "string", "format": "date-time"}
NUMBER: Json = {"type": "string", "pattern": "^[0-9]+$"}

MESSAGES = ("userEventV1", "userEventV2", "userEventV3", "userErasure", "sealedErasure")
EXAMPLE_ERASURE: Json = {
    "version": "2.1",
    "recordKind": ERASURE,
    "erasureId": EXAMPLE_ID,
    "tenantId": "acme",
    "userId": "user-123",
    "requestedAt": "2026-01-31T12:00:00.123456Z",
}

EXAMPLE_SUBJECT = "5f0c3a51-29f1-4b7e-9d56-0f4f6a3d2c11"
EXAMPLE_SEALED = "cmFuZG9tIG5vbmNlIGFuZCB3aGF0IG5vYm9keSBjYW4gcmVhZA=="
EXAMPLE_V3: Json = {
    "version": "3.0",
    "eventId": EXAMPLE_ID,
    "tenantId": "acme",
    "subjectId": EXAMPLE_SUBJECT,
    "eventType": "PRODUCT_VIEW",
    "timestamp": "2026-01-31T12:00:00.123456Z",
    "product": "p-42",
    "sealed": EXAMPLE_SEALED,
}
EXAMPLE_SEALED_ERASURE: Json = {
    "version": "3.1",
    "recordKind": ERASURE,
    "erasureId": EXAMPLE_ID,
    "tenantId": "acme",
    "requestedAt": "2026-01-31T12:00:00.123456Z",
    "subjectIds": [EXAMPLE_SUBJECT],
    "sealed": EXAMPLE_SEALED,
}

DIAGNOSIS: Json = {
    "footfall-dlq-topic": {"type": "string", "description": "Where the record is."},
    "footfall-dlq-partition": NUMBER,
    "footfall-dlq-offset": NUMBER,
    "footfall-dlq-cause": {
        "enum": ["poison", "newer_version", "behind"],
        "description": "`behind`: nothing is wrong with it, it waits for an earlier record of its key.",
    },
    "footfall-dlq-error-class": {"type": "string"},
    "footfall-dlq-error-message": {"type": "string", "description": "What was wrong; it quotes no value."},
    "footfall-dlq-attempts": {**NUMBER, "description": "How often it had been tried."},
    "footfall-dlq-recorded-at": {**MOMENT, "description": "When the record was made."},
    "footfall-dlq-parked-at": {**MOMENT, "description": "When it was set aside."},
}
VALUE_OMITTED = "footfall-dlq-value-omitted"


def document() -> Json:
    """The AsyncAPI 3.0 document."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Footfall: the log",
            "version": "1",
            "description": "The topic of the events is the history and the only truth; everything else is derived.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "channels": {"userActivityEvents": _events_channel(), "deadLetters": _dead_letters_channel()},
        "operations": _operations(),
        "components": {"messages": _messages(), "schemas": _schemas()},
    }


def _events_channel() -> Json:
    return {
        "address": TOPIC,
        "title": "Events",
        "description": "Every event, for ever. Those of one user are in one partition, in order.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in MESSAGES},
        "bindings": {
            "kafka": {
                "topic": TOPIC,
                "partitions": PARTITIONS,
                "topicConfiguration": {"cleanup.policy": ["delete"], "retention.ms": -1},
                "bindingVersion": BINDING_VERSION,
            }
        },
    }


def _dead_letters_channel() -> Json:
    return {
        "address": DEAD_LETTER_TOPIC,
        "title": "Dead letters",
        "description": "Records that could not be applied, with their diagnosis; each at least once, in order.",
        "messages": {"deadLetter": {"$ref": "#/components/messages/deadLetter"}},
        "bindings": {"kafka": {"topic": DEAD_LETTER_TOPIC, "bindingVersion": BINDING_VERSION}},
    }


def _operations() -> Json:
    events, letters = {"$ref": "#/channels/userActivityEvents"}, {"$ref": "#/channels/deadLetters"}
    return {
        "publishEvent": {
            "action": "send",
            "channel": events,
            "summary": "The command side publishes each accepted command, acknowledged by all in-sync replicas.",
        },
        "projectEvent": {
            "action": "receive",
            "channel": events,
            "summary": "The projector applies each event once.",
            "description": "Positions are kept in PostgreSQL; the group only assigns partitions.",
            "bindings": {
                "kafka": {"groupId": {"type": "string", "const": CONSUMER_GROUP}, "bindingVersion": BINDING_VERSION}
            },
        },
        "publishDeadLetter": {
            "action": "send",
            "channel": letters,
            "summary": "The projector publishes what it has set aside.",
        },
    }


def _messages() -> Json:
    return {
        "userEventV1": _event_message(
            f"An event of the tenant `{DEFAULT_TENANT}`",
            "UserEventV1",
            {"type": "string", "description": "The user id."},
            EXAMPLE_V1,
        ),
        "userEventV2": _event_message(
            "An event of any other tenant",
            "UserEventV2",
            {"type": "string", "description": "The tenant, U+001F, and the user."},
            EXAMPLE_V2,
        ),
        "userEventV3": _event_message(
            "An event of the sealed log (PRIVACY=sealed), of any tenant",
            "UserEventV3",
            {"type": "string", "description": "The subject id; of other tenants the tenant and U+001F before it."},
            EXAMPLE_V3,
        ),
        "userErasure": _erasure_message(
            "The erasure of a user: no event", "UserErasure", "As of the user's events.", EXAMPLE_ERASURE
        ),
        "sealedErasure": _erasure_message(
            "The same in the sealed log", "SealedErasure", "The request.", EXAMPLE_SEALED_ERASURE
        ),
        "deadLetter": {
            "name": "DeadLetter",
            "title": "A record that was set aside",
            "summary": "Key, value and headers are the record's own; the diagnosis comes after them.",
            "headers": {"$ref": "#/components/schemas/DeadLetterHeaders"},
            "payload": {"description": "The record's value as it was: any bytes, or none."},
            "contentType": "application/octet-stream",
            "bindings": {"kafka": {"bindingVersion": BINDING_VERSION}},
        },
    }


def _erasure_message(title: str, schema: str, key: str, example: Json) -> Json:
    headers = {HEADER_RECORD_KIND: ERASURE, HEADER_EVENT_ID: EXAMPLE_ID, HEADER_REQUEST_ID: "trace-42"}
    return {
        "name": schema,
        "title": title,
        "summary": "In every partition. What the user did before it in the partition is to be forgotten.",
        "headers": {"$ref": "#/components/schemas/ErasureHeaders"},
        "payload": {"$ref": f"#/components/schemas/{schema}"},
        "bindings": {"kafka": {"key": {"type": "string", "description": key}, "bindingVersion": BINDING_VERSION}},
        "examples": [{"headers": headers, "payload": example}],
    }


def _event_message(title: str, schema: str, key: Json, example: Json) -> Json:
    return {
        "name": schema,
        "title": title,
        "headers": {"$ref": "#/components/schemas/EventHeaders"},
        "payload": {"$ref": f"#/components/schemas/{schema}"},
        "bindings": {"kafka": {"key": key, "bindingVersion": BINDING_VERSION}},
        "examples": [{"headers": EXAMPLE_HEADERS, "payload": example}],
    }


def _schemas() -> Json:
    _, events = msgspec.json.schema_components(
        (PUBLISHED["1"], PUBLISHED["2"], UserEventV3, UserErasure, SealedErasure),
        ref_template="#/components/schemas/{name}",
    )
    headers: Json = {
        "type": "object",
        "required": [HEADER_EVENT_TYPE, HEADER_EVENT_ID, HEADER_REQUEST_ID],
        "properties": {
            HEADER_EVENT_TYPE: {"enum": list(FIRST_TYPES)},
            HEADER_EVENT_ID: {"type": "string", "format": "uuid"},
            HEADER_REQUEST_ID: {
                "type": "string",
                "pattern": f"^[!-~]{{1,{MAX_REQUEST_ID_LENGTH}}}$",
                "description": "The `X-Request-ID` of the command.",
            },
            HEADER_FINGERPRINT: {
                "type": "string",
                "pattern": "^[0-9a-f]{64}$",
                "description": "Only with an idempotency key: SHA-256 of user, type and payload of the command.",
            },
            HEADER_TRACEPARENT: {
                "type": "string",
                "description": "Only where the request is part of a trace (W3C Trace Context): its span.",
            },
        },
    }
    erasure: Json = {
        "type": "object",
        "required": [HEADER_RECORD_KIND, HEADER_EVENT_ID, HEADER_REQUEST_ID],
        "properties": {
            HEADER_RECORD_KIND: {"const": ERASURE, "description": "Only on records that are no events."},
            HEADER_EVENT_ID: {"type": "string", "format": "uuid", "description": "Of the request, in each partition."},
            HEADER_REQUEST_ID: {"type": "string"},
            HEADER_ACTOR: {"type": "string", "description": "Who asked, for the audit log."},
        },
    }
    omitted = {**NUMBER, "description": "Bytes of the value that was left out; only where it would not fit."}
    letter: Json = {
        "type": "object",
        "required": list(DIAGNOSIS),
        "properties": {**DIAGNOSIS, VALUE_OMITTED: omitted},
    }
    return {**events, "EventHeaders": headers, "ErasureHeaders": erasure, "DeadLetterHeaders": letter}


def rendered(catalogue: Catalogue) -> bytes:
    """The document as it is served, and as its file has it for the shipped catalogue."""
    return msgspec.json.format(msgspec.json.encode(with_types_of(catalogue, document())), indent=2) + b"\n"
