"""What traces say of a projector's work: each sampled event has the batch's transaction in its trace, and its end."""

import re
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from contracts.record import (
    HEADER_EVENT_ID,
    HEADER_REQUEST_ID,
    HEADER_TRACEPARENT,
    MAX_REQUEST_ID_LENGTH,
)
from projector.dead_letters.parking import DeadLetter
from projector.writing.rows import KafkaRecord
from telemetry.logs import get_logger
from telemetry.traces.context import Context, Value, parse
from telemetry.traces.joint_work import record_joint
from telemetry.traces.tracing import TRACING

OWN_HEADERS = 3  # of a record without a trace that the command side published
MAX_TRACED = 4_096  # traces that one batch goes on with
MS = 1_000_000  # ns

Headers = Sequence[tuple[str, bytes]]
Traced = Mapping[Context, Sequence[KafkaRecord]]  # the records of each span that published some

_request_id = re.compile(rb"[!-~]{1,%d}" % MAX_REQUEST_ID_LENGTH).fullmatch
_event_id = re.compile(rb"[0-9A-Fa-f-]{36}").fullmatch


def traced_records(fetched: Iterable[Sequence[KafkaRecord]]) -> Traced:
    """The records that are part of a trace that is kept. Nearly none are: the usual headers are passed over at once."""
    found: dict[Context, list[KafkaRecord]] = defaultdict(list)
    for records in fetched:
        for record in records:
            headers = record.headers
            if len(headers) == OWN_HEADERS and headers[2][0] == HEADER_REQUEST_ID:
                continue
            context = context_of(headers)
            if context is not None and (context in found or len(found) < MAX_TRACED):
                found[context].append(record)
    return found


def context_of(headers: Headers) -> Context | None:
    """The span that a record's headers name; None: there is none, or nobody keeps it."""
    values = _values(headers, HEADER_TRACEPARENT)
    context = parse(values[0]) if len(values) == 1 else None
    return context if context is not None and context.sampled else None


class BatchTrace:
    """The spans of one batch, whose transaction begins now."""

    def __init__(self, traced: Traced, count: int, topic: str, group: str, generation: str) -> None:
        """`count`: of all records of the batch."""
        self._traced, self._count = traced, count
        self._topic, self._group, self._generation = topic, group, generation
        self._began = time.time_ns()

    def committed(self, letters: Iterable[DeadLetter], stored: int) -> None:
        """Records the spans of a batch, of which so many events were new. Never raises: the batch is committed."""
        try:
            self._record(letters, stored)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is none of the batch's
            get_logger("projector").error("batch_not_traced", error=type(error).__name__)

    def _record(self, letters: Iterable[DeadLetter], stored: int) -> None:
        parked = {(each.record.partition, each.record.offset): each.diagnosis.cause for each in letters}
        contexts, times = list(self._traced), (self._began, time.time_ns())

        def own(context: Context) -> dict[str, Value]:
            mine = self._traced[context]
            causes = [cause for each in mine if (cause := parked.get((each.partition, each.offset)))]
            told: dict[str, Value] = {"footfall.outcome": "parked" if causes else "applied"}
            return {**place_of(mine), **told, **({"error.type": causes[0]} if causes else {})}

        attributes = {
            **of_topic(self._topic, "process"),
            "messaging.consumer.group.name": self._group,
            "messaging.batch.message_count": self._count,
        }
        spans = record_joint(f"process {self._topic}", "consumer", contexts, times, attributes, own)
        if spans:
            self._record_transaction(spans[0], times, stored)
            record_visible({context: self._unparked(context, parked) for context in contexts}, times[1])

    def _unparked(self, context: Context, parked: Mapping[tuple[int, int], str]) -> list[KafkaRecord]:
        return [each for each in self._traced[context] if (each.partition, each.offset) not in parked]

    def _record_transaction(self, batch: Context, times: tuple[int, int], stored: int) -> None:
        attributes: dict[str, Value] = {
            "db.system.name": "postgresql",
            "db.operation.name": "INSERT",
            "db.collection.name": f"{self._generation}.processed_events",
            "db.operation.batch.size": stored,
        }
        if TRACING.recorder is not None:
            TRACING.recorder.record("INSERT processed_events", "client", batch.child(), batch, times, attributes)


def record_visible(traced: Traced, now: int) -> None:
    """Records how long readers waited for each event: from Kafka's timestamp until `now`, ns since 1970."""
    for context, records in traced.items():
        if records and TRACING.recorder is not None:
            began = min(min(each.timestamp for each in records) * MS, now)
            TRACING.recorder.record("visible", "internal", context.child(), context, (max(began, 0), now), {})


def of_topic(topic: str, operation: str) -> dict[str, Value]:
    """The attributes of what is done with records of a topic."""
    return {
        "messaging.system": "kafka",
        "messaging.operation.name": operation,
        "messaging.operation.type": "send" if operation == "send" else "process",
        "messaging.destination.name": topic,
    }


def place_of(records: Sequence[KafkaRecord]) -> dict[str, Value]:
    """Where a record is in the log, and its event's id; of several, how many there are."""
    if len(records) != 1:
        return {"footfall.records": len(records)}
    [record] = records
    told: dict[str, Value] = {
        "messaging.destination.partition.id": str(record.partition),
        "messaging.kafka.offset": record.offset,
    }
    ids = [value for value in _values(record.headers, HEADER_EVENT_ID) if _event_id(value)]
    return {**told, "messaging.message.id": ids[0].decode()} if ids else told


def named_by(headers: Headers) -> dict[str, Any]:
    """What log lines about a record name it by: the request that published it, and its trace."""
    ids = [value.decode() for value in _values(headers, HEADER_REQUEST_ID) if _request_id(value)]
    contexts = [context for value in _values(headers, HEADER_TRACEPARENT) if (context := parse(value))]
    told = {"request_id": ids[0]} if ids else {}
    return {**told, "trace_id": f"{contexts[0].trace_id:032x}"} if contexts else told


def _values(headers: Headers, wanted: str) -> list[bytes]:
    """The values of a header, which any producer may have written, or left null."""
    return [value for name, value in headers if name == wanted and isinstance(value, bytes)]  # pyright: ignore[reportUnnecessaryIsInstance]
