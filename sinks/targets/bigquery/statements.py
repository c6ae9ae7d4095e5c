"""The SQL of a sink in BigQuery.

A batch is a literal of its statement, for the emulator binds no parameter inside of a transaction: base64, whose
alphabet needs no escaping.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from sinks.target import Document

COLUMNS = {
    "tenant_id": "STRING",
    "event_id": "STRING",
    "user_id": "STRING",
    "event_type": "STRING",
    "occurred_at": "TIMESTAMP",
    "recorded_at": "TIMESTAMP",
    "payload": "JSON",
    "kafka_partition": "INT64",
    "kafka_offset": "INT64",
}
NAMES = ", ".join(COLUMNS)
TURN = -1  # the partition of a row that stands for none
# How a column is read from an element of the batch, which has texts and numbers.
_READ = {
    "TIMESTAMP": "TIMESTAMP({})",
    "JSON": "PARSE_JSON({}, wide_number_mode=>'round')",
    "INT64": "CAST({} AS INT64)",
}
_encode = msgspec.json.Encoder().encode


def create(dataset: str) -> list[str]:
    """Returns the statements that make what is missing."""
    columns = ", ".join(f"{name} {kind} NOT NULL" for name, kind in COLUMNS.items())
    missing = "CREATE TABLE IF NOT EXISTS"
    return [
        f"{missing} `{dataset}.events` ({columns}) CLUSTER BY tenant_id, occurred_at",
        f"{missing} `{dataset}.positions` (kafka_partition INT64 NOT NULL, next_offset INT64 NOT NULL)",
        f"{missing} `{dataset}.footfall_sink` (target STRING NOT NULL, format INT64 NOT NULL)",
    ]


def write(dataset: str, documents: Sequence[Document], positions: Mapping[int, int]) -> str:
    """Returns the transaction that stores documents that are not there, and the positions behind them.

    BigQuery lets two insert at once, each without what the other one inserts. Two that update a row of one table cannot
    both commit, so every transaction updates the row `TURN`: one that goes on after its process died stores none twice.
    """
    statements = [_merge_positions(dataset, {TURN: 0, **positions})]
    if documents:
        statements.append(_merge_events(dataset, [_element(document) for document in documents]))
    return f"BEGIN TRANSACTION; {'; '.join(statements)}; COMMIT TRANSACTION;"


def _element(document: Document) -> dict[str, Any]:
    return {
        "tenant_id": document.tenant_id,
        "event_id": str(document.event_id),
        "user_id": document.user_id,
        "event_type": document.event_type,
        "occurred_at": document.occurred_at.isoformat(),
        "recorded_at": document.recorded_at.isoformat(),
        "payload": document.payload.decode(),
        "kafka_partition": document.partition,
        "kafka_offset": document.offset,
    }


def _merge_events(dataset: str, elements: Sequence[Mapping[str, Any]]) -> str:
    read = ", ".join(f"{_read(name, kind)} AS {name}" for name, kind in COLUMNS.items())
    new = ", ".join(f"b.{name}" for name in COLUMNS)
    return (
        f"MERGE `{dataset}.events` AS e "
        f"USING (SELECT {read} FROM UNNEST(JSON_EXTRACT_ARRAY({_literal(elements)})) AS r) AS b "
        "ON e.tenant_id = b.tenant_id AND e.event_id = b.event_id "
        f"WHEN NOT MATCHED THEN INSERT ({NAMES}) VALUES ({new})"
    )


def turn(dataset: str) -> str:
    """Returns the statement that makes the row that every transaction updates."""
    return _merge_positions(dataset, {TURN: 0})


def _merge_positions(dataset: str, positions: Mapping[int, int]) -> str:
    moved = [{"kafka_partition": each, "next_offset": offset} for each, offset in positions.items()]
    kinds = {"kafka_partition": "INT64", "next_offset": "INT64"}
    read = ", ".join(f"{_read(name, kind)} AS {name}" for name, kind in kinds.items())
    return (
        f"MERGE `{dataset}.positions` AS p "
        f"USING (SELECT {read} FROM UNNEST(JSON_EXTRACT_ARRAY({_literal(moved)})) AS r) AS w "
        "ON p.kafka_partition = w.kafka_partition WHEN MATCHED THEN UPDATE SET next_offset = w.next_offset "
        "WHEN NOT MATCHED THEN INSERT (kafka_partition, next_offset) VALUES (w.kafka_partition, w.next_offset)"
    )


def erase(dataset: str) -> str:
    """Returns the statement that deletes users; `@gone`: an array of objects."""
    return (
        f"MERGE `{dataset}.events` AS e USING (SELECT JSON_VALUE(r, '$.tenant_id') AS tenant_id, "
        "JSON_VALUE(r, '$.user_id') AS user_id, CAST(JSON_VALUE(r, '$.kafka_partition') AS INT64) AS kafka_partition, "
        "MAX(CAST(JSON_VALUE(r, '$.before') AS INT64)) AS before FROM UNNEST(JSON_EXTRACT_ARRAY(@gone)) AS r "
        "GROUP BY 1, 2, 3) AS g ON e.tenant_id = g.tenant_id AND e.user_id = g.user_id "
        "AND e.kafka_partition = g.kafka_partition AND e.kafka_offset < g.before WHEN MATCHED THEN DELETE"
    )


def try_again(dataset: str) -> str:
    """Returns the transaction that stores a stored event under an id of its own, and takes it back."""
    again = NAMES.replace("event_id", "GENERATE_UUID()")
    return (
        f"BEGIN TRANSACTION; INSERT INTO `{dataset}.events` ({NAMES}) SELECT {again} FROM `{dataset}.events` LIMIT 1; "
        "ROLLBACK TRANSACTION;"
    )


def _read(name: str, kind: str) -> str:
    return _READ.get(kind, "{}").format(f"JSON_VALUE(r, '$.{name}')")


def _literal(elements: Any) -> str:
    return f"SAFE_CONVERT_BYTES_TO_STRING(FROM_BASE64('{base64.b64encode(_encode(elements)).decode()}'))"
