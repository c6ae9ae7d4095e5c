"""Reading the log again, from one position or moment to another, without touching the read model.

The consumer belongs to no group, so nobody's position moves. What is read is bounded by the log's end as it was at the
start. The order is the log's within each partition.
"""

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaTimeoutError
from aiokafka.structs import ConsumerRecord

from contracts.event import EventType, UserEvent
from contracts.record import from_value
from contracts.settings import KafkaSettings
from contracts.validation.rules import Problems
from telemetry.connections import ended_within

STALL = 60.0  # seconds without a record, after which Kafka counts as away
FETCH_MS = 200  # of one fetch
CLOSE_TIMEOUT = 2.0  # seconds


class Span(msgspec.Struct, frozen=True):
    """What of the log to read. A bound is an offset, the time of records, or None: the beginning, the end.

    `begin` is included, `end` is not. Times are those of Kafka's records, the first at or after it in each partition.
    """

    begin: int | datetime | None = None
    end: int | datetime | None = None
    partitions: Sequence[int] = ()  # none named: all


class Wanted(msgspec.Struct, frozen=True):
    """Which events of the span. None: any."""

    user: str | None = None
    tenant: str | None = None
    event_type: EventType | None = None

    def __call__(self, event: UserEvent) -> bool:
        """Whether this is one of them."""
        return (
            self.user in (None, event.user_id)
            and self.tenant in (None, event.tenant_id)
            and self.event_type in (None, event.event_type)
        )


class Replayed(msgspec.Struct, frozen=True):
    """One event, and where it is in the log."""

    event: UserEvent
    partition: int
    offset: int
    recorded_at_ms: int


class Malformed(msgspec.Struct, frozen=True):
    """A record that is no valid event; `reason` holds nothing of its value."""

    partition: int
    offset: int
    reason: str


class Tally(msgspec.Struct):
    """How a replay went so far. `total`: records in the span, holes and markers included; `passed`: of those.

    `gone`: partitions whose oldest record, at this offset, is younger than the beginning asked for.
    """

    total: int = 0
    passed: int = 0
    replayed: int = 0
    malformed: int = 0
    gone: dict[int, int] = msgspec.field(default_factory=dict)


class ReplayError(Exception):
    """The span cannot be read; the text says why."""


class HandlerError(Exception):
    """A handler refused an event."""

    def __init__(self, at: Replayed) -> None:
        super().__init__(f"the handler failed at partition {at.partition}, offset {at.offset}")
        self.at = at


Handle = Callable[[Replayed], Awaitable[None]]
Complain = Callable[[Malformed], None]


async def replay(
    settings: KafkaSettings,
    span: Span,
    wanted: Wanted,
    handle: Handle,
    complain: Complain,
    *,
    limit: int | None = None,
    tally: Tally | None = None,
) -> Tally:
    """Calls `handle` for each event wanted, one after the other, at most `limit`; `complain` for each malformed record.

    Raises ReplayError, KafkaError, and what `handle` raises.
    """
    tally = tally or Tally()
    async with _consumer(settings) as consumer:
        bounds = await _bounds(consumer, settings.kafka_topic, span)
        tally.gone = _gone(bounds, span)
        tally.total = sum(end - begin for begin, end in bounds.values())
        async for record in _records(consumer, bounds, tally):
            event = from_value(record.value)
            if isinstance(event, Problems):
                tally.malformed += 1
                complain(Malformed(record.partition, record.offset, " ".join(event.sentences)))
            elif wanted(event):
                await handle(Replayed(event, record.partition, record.offset, record.timestamp))
                tally.replayed += 1
                if tally.replayed == limit:
                    break
    return tally


async def _records(
    consumer: AIOKafkaConsumer, bounds: Mapping[TopicPartition, tuple[int, int]], tally: Tally
) -> AsyncIterator[ConsumerRecord]:
    left = {tp: begin for tp, (begin, end) in bounds.items() if begin < end}
    consumer.assign(list(left))
    for tp, offset in left.items():
        consumer.seek(tp, offset)
    moved_at = time.monotonic()
    while left:
        for tp, records in (await consumer.getmany(*left, timeout_ms=FETCH_MS)).items():
            for record in records:
                if record.offset < bounds[tp][1]:
                    yield record
        reached = {tp: min(await consumer.position(tp), bounds[tp][1]) for tp in left}  # beyond markers and holes too
        if reached != left:
            tally.passed += sum(reached.values()) - sum(left.values())
            left = {tp: offset for tp, offset in reached.items() if offset < bounds[tp][1]}
            moved_at = time.monotonic()
        elif time.monotonic() - moved_at > STALL:
            raise KafkaTimeoutError(f"nothing came of the log for {STALL:g} s")


async def _bounds(consumer: AIOKafkaConsumer, topic: str, span: Span) -> dict[TopicPartition, tuple[int, int]]:
    if topic not in await consumer.topics():
        raise ReplayError(f"there is no topic {topic}")
    await consumer.beginning_offsets([TopicPartition(topic, 0)])  # a topic's partitions are known once it is used
    known = consumer.partitions_for_topic(topic) or set()
    unknown = sorted(set(span.partitions) - known)
    if unknown:
        raise ReplayError(f"{topic} has no partition {', '.join(map(str, unknown))}; it has {len(known)}")
    chosen = [TopicPartition(topic, partition) for partition in sorted(set(span.partitions) or known)]
    first, last = await consumer.beginning_offsets(chosen), await consumer.end_offsets(chosen)
    begins = await _offsets_at(consumer, chosen, span.begin, first, last)
    ends = await _offsets_at(consumer, chosen, span.end, last, last)
    return {tp: (max(begins[tp], first[tp]), max(first[tp], begins[tp], min(ends[tp], last[tp]))) for tp in chosen}


def _gone(bounds: Mapping[TopicPartition, tuple[int, int]], span: Span) -> dict[int, int]:
    asked = 0 if span.begin is None else span.begin
    if not isinstance(asked, int):
        return {}
    return {tp.partition: begin for tp, (begin, _) in bounds.items() if begin > asked}


async def _offsets_at(
    consumer: AIOKafkaConsumer,
    chosen: Sequence[TopicPartition],
    bound: int | datetime | None,
    unbounded: Mapping[TopicPartition, int],
    last: Mapping[TopicPartition, int],
) -> dict[TopicPartition, int]:
    if bound is None:
        return dict(unbounded)
    if isinstance(bound, int):
        return dict.fromkeys(chosen, bound)
    found = await consumer.offsets_for_times(dict.fromkeys(chosen, int(bound.timestamp() * 1000)))
    return {tp: last[tp] if at is None else at.offset for tp, at in found.items()}


@contextlib.asynccontextmanager
async def _consumer(settings: KafkaSettings) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        **settings.client_options(),
        client_id="footfall-replay",
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",  # what a producer aborted never happened
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        await ended_within(CLOSE_TIMEOUT, consumer.stop)
