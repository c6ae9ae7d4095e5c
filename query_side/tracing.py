"""The statements of a recorded request, as spans below its own."""

import re
import time

from asyncpg.connection import LoggedQuery

from telemetry.current_request import CURRENT_REQUEST
from telemetry.traces.context import Value
from telemetry.traces.request_trace import RequestTrace
from telemetry.traces.tracing import TRACING

NS = 1_000_000_000  # in a second
_operation = re.compile(r"\s*([A-Za-z]{1,16})\b").match
_collection = re.compile(r"\b(?:FROM|INTO|UPDATE)\s+([a-z_][a-z0-9_.]{0,126})").search


def record_query(query: LoggedQuery) -> None:
    """Records one statement that has ended: what it does and where, never its text or its arguments."""
    request = CURRENT_REQUEST.get()  # asyncpg calls this in the context of whoever asked
    trace = None if request is None else request.trace
    recorder = TRACING.recorder
    if recorder is None or not isinstance(trace, RequestTrace) or not trace.context.sampled:
        return
    operation, collection = _operation(query.query), _collection(query.query)
    verb = operation[1].upper() if operation else "SQL"
    attributes: dict[str, Value] = {"db.system.name": "postgresql", "db.operation.name": verb}
    if collection:
        attributes["db.collection.name"] = collection[1]
    now, error = time.time_ns(), query.exception
    recorder.record(
        f"{verb} {collection[1]}" if collection else verb,
        "client",
        trace.context.child(),
        trace.context,
        (now - int(query.elapsed * NS), now),
        attributes,
        error=None if error is None else type(error).__name__,
    )
