"""What the traces of commands say: records carry the context, and the request learns what became of them."""

import time
from collections.abc import Iterable, Sequence

from command_side.batch_items import MAX_ITEMS
from command_side.publishing.event_log import (
    ACKNOWLEDGED,
    NOT_TAKEN,
    Acknowledged,
    EventLog,
    NotTaken,
    Outcome,
    Submitted,
)
from command_side.publishing.pending import Pending
from contracts.record import HEADER_TRACEPARENT, EventRecord
from telemetry.traces.context import Context, Value, parse
from telemetry.traces.joint_work import record_joint
from telemetry.traces.request_trace import RequestTrace
from telemetry.traces.tracing import TRACING


def carry(trace: RequestTrace, records: Iterable[EventRecord]) -> None:
    """Gives the records, which nobody else has yet, the header that names their trace."""
    header = (HEADER_TRACEPARENT, trace.record_header())
    for record in records:
        record.headers.append(header)


def note_submitted(trace: RequestTrace, topic: str, submitted: Submitted) -> None:
    """What became of the one record of a request."""
    record, outcome = submitted.record, submitted.outcome
    name, value = record.headers[-1]
    original = parse(value) if name == HEADER_TRACEPARENT else None
    if original is not None:
        trace.repeats(value, original)
    attributes: dict[str, Value] = {
        "messaging.destination.name": topic,
        "messaging.message.id": record.event_id.decode(),
        "messaging.message.body.size": len(record.value),
        **outcome_of(outcome),
    }
    if isinstance(outcome, Acknowledged):
        attributes["messaging.destination.partition.id"] = str(outcome.partition)
        attributes["messaging.kafka.offset"] = outcome.offset
    trace.sent(attributes)


def note_batch(trace: RequestTrace, topic: str, outcomes: Sequence[Outcome]) -> None:
    """What became of the records of a batch: of the first that was not recorded, or of all."""
    missing = (outcome for outcome in outcomes if not isinstance(outcome, ACKNOWLEDGED))
    trace.sent(
        {
            "messaging.destination.name": topic,
            "messaging.batch.message_count": min(len(outcomes), MAX_ITEMS),
            **outcome_of(next(missing, outcomes[0])),
        }
    )


def outcome_of(outcome: Outcome) -> dict[str, Value]:
    """The attributes of an outcome."""
    word = type(outcome).__name__
    return {"footfall.outcome": word} if isinstance(outcome, ACKNOWLEDGED) else {"error.type": word}


class NotedLog:
    """See `EventLog`: `log`, and a request's trace learns what became of its batch."""

    def __init__(self, log: EventLog, trace: RequestTrace, topic: str) -> None:
        self._log, self._trace, self._topic = log, trace, topic
        self.publish_nowait, self.partition_count, self.connected = (
            log.publish_nowait,
            log.partition_count,
            log.connected,
        )

    async def publish_all(self, records: Sequence[EventRecord]) -> list[Outcome] | NotTaken:
        """See `EventLog`."""
        outcomes = await self._log.publish_all(records)
        if records:
            note_batch(self._trace, self._topic, [outcomes] if isinstance(outcomes, NOT_TAKEN) else outcomes)
        return outcomes


def traced_records(pending: Sequence[Pending]) -> list[Context]:
    """The spans that the records of a round name as their own, each once."""
    if TRACING.recorder is None:
        return []
    found = [last for each in pending if (last := each.record.headers[-1])[0] == HEADER_TRACEPARENT]
    contexts = (parse(value) for _, value in dict.fromkeys(found))  # the records of one batch have the same
    return [context for context in contexts if context is not None and context.sampled]


def record_round(contexts: Sequence[Context], started: int, topic: str, records: int) -> None:
    """The span of a produce round that has ended, in each of these traces. `started`: ns since 1970."""
    attributes: dict[str, Value] = {
        "messaging.system": "kafka",
        "messaging.destination.name": topic,
        "messaging.batch.message_count": records,
    }
    record_joint("produce round", "client", contexts, (started, time.time_ns()), attributes)
