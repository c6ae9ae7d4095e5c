"""Reports a projector's progress: metrics, a log line for each parked record, and offset commits for lag tools."""

import asyncio
from collections.abc import Iterable

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from projector.consuming.batch import OwnedPosition
from projector.failpoints import reached
from projector.tracing import BatchTrace, named_by
from projector.writing.commit import Batch, Committed
from telemetry.logs import get_logger
from telemetry.metrics import (
    BATCHES_COMMITTED,
    DEAD_LETTERS_PARKED,
    DUPLICATES_SKIPPED,
    EVENTS_PROJECTED,
    IDEMPOTENCY_CONFLICTS,
)

GROUP_COMMIT_TIMEOUT = 2.0  # seconds


def count_commit(generation: str, batch: Batch, outcome: Committed, trace: BatchTrace | None = None) -> None:
    """Counts a committed batch in the metrics, records its trace, and logs each record that it parked."""
    if trace is not None:
        trace.committed(batch.letters, outcome.stored)
    BATCHES_COMMITTED.labels(generation=generation).inc()
    EVENTS_PROJECTED.labels(generation=generation).inc(outcome.stored)
    DUPLICATES_SKIPPED.labels(generation=generation).inc(outcome.duplicates)
    IDEMPOTENCY_CONFLICTS.labels(generation=generation).inc(outcome.conflicts)
    for letter in batch.letters:
        DEAD_LETTERS_PARKED.labels(cause=letter.diagnosis.cause, generation=generation).inc()
        if letter.diagnosis.cause != "behind":
            get_logger("projector").warning(
                "record_parked",
                topic=letter.record.topic,
                partition=letter.record.partition,
                offset=letter.record.offset,
                cause=letter.diagnosis.cause,
                reason=letter.diagnosis.error_message,
                **named_by(letter.record.headers),
            )


async def commit_to_group(consumer: AIOKafkaConsumer, positions: Iterable[OwnedPosition]) -> None:
    """Commits offsets to the consumer group, for lag tools. Nothing depends on it, so errors are only logged."""
    offsets = {TopicPartition(p.topic, p.partition): p.next_offset for p in positions}
    if not offsets:
        return
    await reached("before_offset_commit")
    try:
        async with asyncio.timeout(GROUP_COMMIT_TIMEOUT):
            await consumer.commit(offsets)
    except (CommitFailedError, IllegalStateError, KafkaError, TimeoutError) as error:
        get_logger("projector").info("group_offsets_not_committed", error=type(error).__name__)
